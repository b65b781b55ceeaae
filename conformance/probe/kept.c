/* What a program may hold that a checkpoint has to keep; says every 20 ms in the file /count how far it is.
 *
 *     kept count           counts, and does nothing else
 *     kept tree            three processes that count together: each number goes by a pipe to a child, which adds one to
 *                          memory that all share (anonymous, and a file of /dev/shm) and sends it on to a grandchild, which
 *                          sends it back by another pipe. Whatever does not fit is written to /wrong.
 *     kept lock            as count, with a lock of each kind (fcntl, flock) on /lock that a child looks at all the time
 *     kept memory MIB      as count, with so much memory of random bytes; once /check is there, writes "same" or "other" to
 *                          /checked. Changes the first fiftieth once /change is there.
 *
 * Built by the test: cc -O2 -static. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "%s.new", name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) || rename(path, name))
        _exit(9);
}

static void say_number(long n)
{
    char text[32];
    snprintf(text, sizeof text, "%ld\n", n);
    say("/count", text);
    usleep(20000);
}

static void wrong(const char *what)
{
    say("/wrong", what);
    _exit(8);
}

static void count(void)
{
    for (long n = 1;; n++)
        say_number(n);
}

static void get(int fd, long *n)
{
    if (read(fd, n, sizeof *n) != sizeof *n)
        wrong("a pipe ended\n");
}

static void put(int fd, long n)
{
    if (write(fd, &n, sizeof n) != sizeof n)
        wrong("a pipe takes nothing\n");
}

static void tree(void)
{
    int down[2], between[2], up[2];
    long n, *anonymous = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = open("/dev/shm/kept", O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, 4096) || pipe(down) || pipe(between) || pipe(up))
        wrong("no shared memory or pipe\n");
    long *file = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (anonymous == MAP_FAILED || file == MAP_FAILED)
        wrong("no shared memory\n");
    if (fork() == 0) {
        if (fork() == 0)
            for (;;) {
                get(between[0], &n);
                if (*anonymous != n || *file != n)
                    wrong("the grandchild does not share the memory\n");
                put(up[1], n);
            }
        for (;;) {
            get(down[0], &n);
            ++*anonymous, ++*file;
            put(between[1], n);
        }
    }
    for (long next = 1;; next++) {
        put(down[1], next);
        get(up[0], &n);
        if (n != next || *anonymous != next || *file != next)
            wrong("the numbers differ\n");
        say_number(next);
    }
}

static void lock(void)
{
    struct flock mine = {.l_type = F_WRLCK}, other;
    int one = open("/lock", O_RDWR | O_CREAT, 0600), two = open("/lock2", O_RDWR | O_CREAT, 0600);
    if (one < 0 || two < 0 || fcntl(one, F_SETLK, &mine) || flock(two, LOCK_EX))
        wrong("no lock\n");
    if (fork() == 0)
        for (;; usleep(5000)) {
            other = mine;
            if (fcntl(one, F_GETLK, &other) || other.l_type != F_WRLCK || other.l_pid != 1)
                wrong("the lock of fcntl is gone\n");
            int again = open("/lock2", O_RDWR);
            if (again < 0 || flock(again, LOCK_EX | LOCK_NB) == 0)
                wrong("the lock of flock is gone\n");
            close(again);
        }
    count();
}

static unsigned long seed;

static unsigned long next_random(void)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}

static void memory(size_t size)
{
    unsigned long *words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t number = size / sizeof *words;
    int changed = 0;
    if (words == MAP_FAILED)
        wrong("no memory\n");
    seed = 88172645463325252ul;
    for (size_t i = 0; i < number; i++)
        words[i] = next_random();
    for (long n = 1;; n++) {
        if (!changed && access("/change", F_OK) == 0) {
            for (size_t i = 0; i < number / 50; i++)
                words[i] = ~words[i];
            changed = 1;
            say("/changed", "changed\n");
        }
        if (access("/check", F_OK) == 0) {
            const char *text = "same\n";
            unlink("/check");
            seed = 88172645463325252ul;
            for (size_t i = 0; i < number; i++) {
                unsigned long wanted = next_random();
                if (words[i] != (changed && i < number / 50 ? ~wanted : wanted))
                    text = "other\n";
            }
            say("/checked", text);
        }
        say_number(n);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "count";
    umask(022);
    if (!strcmp(what, "count"))
        count();
    if (!strcmp(what, "tree"))
        tree();
    if (!strcmp(what, "lock"))
        lock();
    if (!strcmp(what, "memory") && argc > 2)
        memory((size_t)atol(argv[2]) << 20);
    return 2;
}
