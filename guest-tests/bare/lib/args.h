#pragma once
#include <stdbool.h>
#include <stdint.h>

#define ARG_VALUE_ROOM 256

void args_use(const char *command_line);
bool has_arg(const char *name);
/* Valid until the next call. */
const char *arg_text(const char *name, const char *fallback);
/* Decimal, or hexadecimal after 0x. */
uint64_t arg_number(const char *name, uint64_t fallback);
/* Reads digits and moves on past them; 0x in front means base 16 whatever `base` says. */
uint64_t read_number(const char **text, unsigned base);
