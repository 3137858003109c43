/* Registers of QEMU's edu device, 1234:11e8 (docs/specs/edu): below 0x80 only dwords, above dwords and quadwords. */
#pragma once

#define EDU_ID 0x11e81234u
#define EDU_IDENTIFICATION 0x00
#define EDU_LIVENESS 0x04
#define EDU_FACTORIAL 0x08
#define EDU_STATUS 0x20
#define EDU_STATUS_COMPUTING 0x01
#define EDU_STATUS_INTERRUPT 0x80
#define EDU_INTERRUPT_STATUS 0x24
#define EDU_INTERRUPT_RAISE 0x60
#define EDU_INTERRUPT_ACKNOWLEDGE 0x64
#define EDU_DMA_SOURCE 0x80
#define EDU_DMA_TARGET 0x88
#define EDU_DMA_COUNT 0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_DMA_START 0x01
#define EDU_DMA_TO_RAM 0x02
#define EDU_DMA_INTERRUPT 0x04
/* Interrupt cause of the DMA engine and of the factorial. */
#define EDU_CAUSE_DMA 0x100
#define EDU_CAUSE_FACTORIAL 0x001
/* Its buffer, in its own address space. */
#define EDU_BUFFER 0x40000
#define EDU_BUFFER_SIZE 4096
/* The most to transfer at once: QEMU takes an end at the end of the buffer for one beyond it, and aborts. */
#define EDU_TRANSFER_SIZE 4088
/* What its DMA engine reaches. */
#define EDU_DMA_LIMIT 0x10000000ul
