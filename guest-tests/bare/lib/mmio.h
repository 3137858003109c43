/* Memory-mapped registers, each access exactly as wide as its name says and never merged, split or left out. */
#pragma once
#include <stdint.h>

#define MMIO_ACCESS(bits)                                                                            \
	static inline uint##bits##_t mmio_read##bits(uint64_t address) {                                 \
		uint##bits##_t value;                                                                        \
		__asm__ volatile("mov %1, %0" : "=r"(value) : "m"(*(volatile uint##bits##_t *)address) : "memory"); \
		return value;                                                                                \
	}                                                                                                \
	static inline void mmio_write##bits(uint64_t address, uint##bits##_t value) {                    \
		__asm__ volatile("mov %1, %0" : "=m"(*(volatile uint##bits##_t *)address) : "r"(value) : "memory"); \
	}

MMIO_ACCESS(8)
MMIO_ACCESS(16)
MMIO_ACCESS(32)
MMIO_ACCESS(64)
#undef MMIO_ACCESS
