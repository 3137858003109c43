#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
bool text_equal(const char *a, const char *b);
/* Of all bytes, modulo 256: ACPI's checksum is right when it is 0. */
uint8_t byte_sum(const void *from, size_t size);
/* The same for the same seed, which must not be 0. */
void fill_pattern(void *to, size_t size, uint32_t seed);
