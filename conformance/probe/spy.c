/* Runs in a container that may trace its processes, and opens the directories that each new process has open, as soon
 * as it is there. Prints the device and inode of each, for the test to compare with directories of the host.
 * Built by the test: cc -O2 -static. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* One process, until it has gone. */
static void watch(int dir)
{
    char seen[32] = {0}, name[16];
    for (;;) {
        for (int n = 3; n < 32; n++) {
            snprintf(name, sizeof name, "fd/%d/.", n);
            int fd = openat(dir, name, O_PATH | O_DIRECTORY);
            if (fd < 0 && errno == ESRCH)
                return;
            struct stat st;
            if (fd >= 0 && !seen[n] && fstat(fd, &st) == 0) {
                seen[n] = 1;
                printf("%lu:%lu\n", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
            }
            if (fd >= 0)
                close(fd);
        }
        if (faccessat(dir, "stat", F_OK, 0) < 0)
            return;
    }
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("watching\n");
    for (int next = getpid() + 1;; next++) {
        int dir = -1;
        char path[32];
        for (int skipped = 0; dir < 0; skipped = (skipped + 1) % 4) {
            snprintf(path, sizeof path, "/proc/%d", next + skipped);
            dir = open(path, O_PATH | O_DIRECTORY);
            if (dir >= 0)
                next += skipped;
        }
        watch(dir);
        close(dir);
    }
}
