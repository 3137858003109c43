/*
 * From the PVH entry (Xen docs/misc/pvh.pandoc: 32-bit protected mode, paging off, EBX = start info) to C in long mode.
 * The first 4 GiB are mapped one to one in 2 MiB pages: RAM write-back, the PCI hole from 3 GiB up uncached.
 */
#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define CR0_PE_MP_ET_NE_WP_PG 0x80010033
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define PRESENT_WRITE 0x3
#define LARGE_WRITE_BACK 0x83
#define LARGE_UNCACHED 0x9b

	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.long start32

	.text
	.code32
start32:
	cli
	cld
	movl $stack_top, %esp
	lgdt gdt_pointer
	movl $CR4_PAE, %eax
	movl %eax, %cr4
	movl $page_root, %eax
	movl %eax, %cr3
	movl $MSR_EFER, %ecx
	movl $EFER_LME, %eax
	xorl %edx, %edx
	wrmsr
	movl $CR0_PE_MP_ET_NE_WP_PG, %eax
	movl %eax, %cr0
	ljmp $0x08, $start64

	.code64
	.globl start64
start64:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movl $stack_top, %esp
	xorl %ebp, %ebp
	movl %ebx, %edi
	call payload_start
1:	hlt
	jmp 1b

	.data
	.align 16
	.globl gdt
gdt:
	.quad 0
	.quad 0x00af9b000000ffff  /* 0x08: code, 64-bit */
	.quad 0x00cf93000000ffff  /* 0x10: data */
	.quad 0x00cf9b000000ffff  /* 0x18: code, 32-bit */
gdt_end:
	.globl gdt_pointer
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.align 4096
	.globl page_root
page_root:
	.quad page_gib_table + PRESENT_WRITE
	.fill 511, 8, 0
page_gib_table:
	.quad page_directories + PRESENT_WRITE
	.quad page_directories + 0x1000 + PRESENT_WRITE
	.quad page_directories + 0x2000 + PRESENT_WRITE
	.quad page_directories + 0x3000 + PRESENT_WRITE
	.fill 508, 8, 0
page_directories:
	.set address, 0
	.rept 3 * 512
	.quad address + LARGE_WRITE_BACK
	.set address, address + 0x200000
	.endr
	.rept 512
	.quad address + LARGE_UNCACHED
	.set address, address + 0x200000
	.endr

	.bss
	.align 16
	.skip 0x8000
stack_top:

	.section .note.GNU-stack, "", @progbits
