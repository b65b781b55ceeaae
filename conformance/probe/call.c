/* Makes system calls by number and prints what came of each, for tests of seccomp.
 *
 *     call ABI:NUMBER[:ARGUMENT]... ...
 *
 * ABI is n (the machine's own), i (32-bit x86 by int 0x80), x (x32), t (the machine's own, in a thread of its own).
 * Numbers as strtoull(3) reads them. Prints one line for each: the result, or -errno; "trapped" after a SIGSYS; of a
 * thread that did not come back "gone". Built by the test: cc -O2 -static. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile int returned;
static unsigned long long a[7];

static void trapped(int signal)
{
    siglongjmp(back, signal);
}

static long make(char abi)
{
    long result;
    if (abi == 'x')
        a[0] |= 0x40000000;
#ifdef __x86_64__
    if (abi == 'i') {
        __asm__ volatile("int $0x80" : "=a"(result)
                         : "a"(a[0]), "b"(a[1]), "c"(a[2]), "d"(a[3]), "S"(a[4]), "D"(a[5])
                         : "memory", "r8", "r9", "r10", "r11");
        return (int)result;
    }
#endif
    result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    return result == -1 ? -errno : result;
}

static void *thread(void *unused)
{
    make('n');
    returned = 1;
    return unused;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        char *rest = argv[i] + 1;
        memset(a, 0, sizeof a);
        for (int n = 0; *rest == ':' && n < 7; n++)
            a[n] = strtoull(rest + 1, &rest, 0);
        if (argv[i][0] == 'h')
            signal(SIGSYS, trapped);
        else if (argv[i][0] == 't') {
            pthread_t id;
            returned = 0;
            pthread_create(&id, NULL, thread, NULL);
            /* A thread that the kernel has killed can be joined as well. */
            pthread_join(id, NULL);
            puts(returned ? "came back" : "gone");
        } else if (sigsetjmp(back, 1))
            puts("trapped");
        else
            printf("%ld\n", make(argv[i][0]));
    }
    return 0;
}
