/*
 * map-wc FILE BYTES: maps a BAR through its resourceN_wc, writes and checks a pattern, says so, and keeps it mapped until
 * it is killed, so that the kernel's list of memory types can be looked at. No libc: it runs in any guest.
 */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
	long result;

	asm volatile("syscall"
		     : "=a"(result)
		     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return result;
}

static void end(int status)
{
	call(__NR_exit, status, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

static unsigned long number(const char *text)
{
	unsigned long value = 0;

	while (*text)
		value = value * 10 + (unsigned long)(*text++ - '0');
	return value;
}

__attribute__((used)) static void run(long *stack)
{
	char **argv = (char **)(stack + 1);
	unsigned long bytes, at;
	volatile unsigned long *words;
	long fd, map;

	if (stack[0] != 3)
		end(2);
	bytes = number(argv[2]);
	fd = call(__NR_open, (long)argv[1], O_RDWR, 0, 0, 0, 0);
	if (fd < 0)
		end(3);
	map = call(__NR_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map < 0 && map > -4096)
		end(4);
	words = (volatile unsigned long *)map;
	for (at = 0; at < bytes / 8; at++)
		words[at] = at * 0x9e3779b97f4a7c15UL;
	for (at = 0; at < bytes / 8; at++)
		if (words[at] != at * 0x9e3779b97f4a7c15UL)
			end(5);
	call(__NR_write, 1, (long)"whole\n", 6, 0, 0, 0);
	call(__NR_pause, 0, 0, 0, 0, 0, 0);
	end(0);
}

asm(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n");
