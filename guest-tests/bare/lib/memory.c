/* What the compiler expects to find even in a freestanding program, and comparisons of strings. */
#include "memory.h"

void *memcpy(void *to, const void *from, size_t size) {
	void *start = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return start;
}

void *memset(void *to, int value, size_t size) {
	void *start = to;
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return start;
}

int memcmp(const void *a, const void *b, size_t size) {
	const uint8_t *x = a, *y = b;
	for (size_t i = 0; i < size; i++) {
		if (x[i] != y[i]) return x[i] - y[i];
	}
	return 0;
}

size_t strlen(const char *text) {
	size_t length = 0;
	while (text[length]) length++;
	return length;
}

bool text_equal(const char *a, const char *b) {
	while (*a && *a == *b) a++, b++;
	return *a == *b;
}

uint8_t byte_sum(const void *from, size_t size) {
	const uint8_t *bytes = from;
	uint8_t sum = 0;
	for (size_t i = 0; i < size; i++) sum += bytes[i];
	return sum;
}

void fill_pattern(void *to, size_t size, uint32_t seed) {
	uint32_t *words = to;
	for (size_t i = 0; i < size / 4; i++) {
		/* xorshift: no two buffers alike, and no run of equal bytes. */
		seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
		words[i] = seed;
	}
}
