#pragma once
#include <stdarg.h>
#include <stddef.h>

void console_write(const char *text, size_t length);
/* %d %u %x with l, width and 0; %s %c. At most 511 characters. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
size_t format_text(char *to, size_t room, const char *format, va_list args);
