/* The command line: words `name=value`. */
#include "args.h"
#include "memory.h"

static const char *line = "";
static char copy[ARG_VALUE_ROOM];

void args_use(const char *command_line) { line = command_line; }

const char *arg_text(const char *name, const char *fallback) {
	size_t length = strlen(name);
	for (const char *at = line; *at;) {
		while (*at == ' ') at++;
		const char *word = at;
		while (*at && *at != ' ') at++;
		if ((size_t)(at - word) <= length || memcmp(word, name, length) != 0 || word[length] != '=') continue;
		size_t size = (size_t)(at - word) - length - 1;
		if (size >= sizeof copy) size = sizeof copy - 1;
		memcpy(copy, word + length + 1, size);
		copy[size] = 0;
		return copy;
	}
	return fallback;
}

static int digit(char c) {
	if (c >= '0' && c <= '9') return c - '0';
	if (c >= 'a' && c <= 'f') return c - 'a' + 10;
	return -1;
}

uint64_t read_number(const char **text, unsigned base) {
	uint64_t value = 0;
	if ((*text)[0] == '0' && (*text)[1] == 'x') base = 16, *text += 2;
	for (int d; (d = digit(**text)) >= 0 && (unsigned)d < base; (*text)++) value = value * base + (unsigned)d;
	return value;
}

bool has_arg(const char *name) { return arg_text(name, NULL) != NULL; }

uint64_t arg_number(const char *name, uint64_t fallback) {
	const char *text = arg_text(name, NULL);
	return text ? read_number(&text, 10) : fallback;
}
