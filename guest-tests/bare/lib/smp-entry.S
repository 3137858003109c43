/* Where another processor starts (SDM vol. 3 §9.4): copied below 1 MiB, from real mode straight to long mode. */
#define CR0_PE_MP_ET_NE_WP_PG 0x80010033
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

	.text
	.code16
	.globl smp_entry
smp_entry:
	cli
	cld
	movw %cs, %ax
	movw %ax, %ds
	lgdtl smp_gdt_pointer - smp_entry
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
	ljmpl $0x08, $smp_entry64
	.align 4
smp_gdt_pointer:
	.word 4 * 8 - 1
	.long gdt
	.globl smp_entry_end
smp_entry_end:

	.code64
smp_entry64:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movq smp_stack, %rsp
	xorl %ebp, %ebp
	call smp_main
1:	cli
	hlt
	jmp 1b

	.section .note.GNU-stack, "", @progbits
