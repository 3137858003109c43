/* COM1, and a small printf. */
#include "console.h"
#include "cpu.h"
#include "memory.h"

#define COM1 0x3f8
#define LINE_ROOM 512

struct line {
	char *to;
	size_t room, length;
};

/* One instruction for the whole line. The machine takes every character at once, so the transmitter is not asked. */
void console_write(const char *text, size_t length) {
	__asm__ volatile("rep outsb" : "+S"(text), "+c"(length) : "d"(COM1) : "memory");
}

static void put(struct line *line, char c) {
	if (line->length < line->room) line->to[line->length++] = c;
}

static void put_number(struct line *line, uint64_t value, unsigned base, unsigned width, char pad) {
	char digits[24];
	unsigned count = 0;
	do {
		digits[count++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	for (unsigned i = count; i < width; i++) put(line, pad);
	while (count) put(line, digits[--count]);
}

size_t format_text(char *to, size_t room, const char *format, va_list args) {
	struct line line = {to, room - 1, 0};
	for (; *format; format++) {
		if (*format != '%') {
			put(&line, *format);
			continue;
		}
		char pad = ' ';
		unsigned width = 0;
		bool is_long = false;
		if (*++format == '0') pad = '0', format++;
		while (*format >= '0' && *format <= '9') width = width * 10 + (unsigned)(*format++ - '0');
		while (*format == 'l') is_long = true, format++;
		switch (*format) {
		case 'd': {
			int64_t value = is_long ? va_arg(args, int64_t) : va_arg(args, int);
			if (value < 0) put(&line, '-');
			put_number(&line, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, width, pad);
			break;
		}
		case 'u':
		case 'x': {
			uint64_t value = is_long ? va_arg(args, uint64_t) : va_arg(args, unsigned);
			put_number(&line, value, *format == 'u' ? 10 : 16, width, pad);
			break;
		}
		case 's': {
			const char *text = va_arg(args, const char *);
			while (*text) put(&line, *text++);
			break;
		}
		case 'c':
			put(&line, (char)va_arg(args, int));
			break;
		default:
			put(&line, *format);
		}
	}
	to[line.length] = 0;
	return line.length;
}

void print(const char *format, ...) {
	char line[LINE_ROOM];
	va_list args;
	va_start(args, format);
	size_t length = format_text(line, sizeof line, format, args);
	va_end(args);
	console_write(line, length);
}
