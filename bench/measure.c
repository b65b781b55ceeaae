/* measure: runs container runtimes in turn and writes down what each command took.
 *
 *   measure SCENARIO ROUNDS GAP_MS DIR SAMPLES NAME=PATH...
 *
 * One round runs every runtime once, in an order drawn anew each round, so that whatever the machine is doing meets all
 * alike and none always follows the same neighbour. Before every timed command it sleeps GAP_MS. SCENARIO:
 *
 *   run     `run` of DIR/bundle from start to end, its program included; NAME floor is called by its own arguments
 *   life    `create`, `start` (then the program's end, not timed), `delete`
 *   state   `state` of the running container still-NAME; NAME nothing is a program that does nothing
 *   exec    `exec` of /bin/true in still-NAME
 *
 * A runtime keeps its state in DIR/state/NAME. A sample is a line of SAMPLES: gap, command, NAME, microseconds, and
 * microseconds of CPU, user and system, of the process and those of its descendants that it waited for (wait4(2)).
 * A command that fails gives one line "fail COMMAND NAME STATUS", and its runtime is left out from then on. Standard
 * output is the commands'.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16, COMMAND_SECONDS = 20 };

struct runtime {
    char *name, *path;
    int failed;
};

static const char *dir;
static int gap_ms, samples;
extern char **environ;

/* Runs one command and writes its sample; -1 if it failed. */
static int timed(struct runtime *r, const char *command, char *const argv[])
{
    struct timespec gap = { gap_ms / 1000, gap_ms % 1000 * 1000000L }, start, end;
    struct rusage usage;
    pid_t pid;
    int status = -1;

    nanosleep(&gap, NULL);
    alarm(COMMAND_SECONDS);
    clock_gettime(CLOCK_MONOTONIC, &start);
    int error = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
    if (!error)
        wait4(pid, &status, 0, &usage);
    clock_gettime(CLOCK_MONOTONIC, &end);
    alarm(0);

    if (error || status) {
        dprintf(samples, "fail\t%s\t%s\t%d\n", command, r->name,
                error ? error : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        r->failed = 1;
        return -1;
    }
    double us = (end.tv_sec - start.tv_sec) * 1e6 + (end.tv_nsec - start.tv_nsec) / 1e3;
    long cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000L + usage.ru_utime.tv_usec +
               usage.ru_stime.tv_usec;
    dprintf(samples, "%d\t%s\t%s\t%.1f\t%ld\n", gap_ms, command, r->name, us, cpu);
    return 0;
}

/* Where a runtime's things are. */
struct place {
    char root[512], bundle[512], rootfs[512], pid_file[512], bench[64], still[64];
};

static struct place place_of(const struct runtime *r)
{
    struct place p;
    snprintf(p.root, sizeof p.root, "%s/state/%s", dir, r->name);
    snprintf(p.bundle, sizeof p.bundle, "%s/bundle", dir);
    snprintf(p.rootfs, sizeof p.rootfs, "%s/rootfs", dir);
    snprintf(p.pid_file, sizeof p.pid_file, "%s/pid-%s", dir, r->name);
    snprintf(p.bench, sizeof p.bench, "bench-%s", r->name);
    snprintf(p.still, sizeof p.still, "still-%s", r->name);
    return p;
}

/* A command of the runtime's: PATH --root STATE COMMAND WORDS... */
#define RUNTIME(command, ...) \
    timed(r, command, (char *const[]){ r->path, "--root", p.root, command, __VA_ARGS__, NULL })

static void run_once(struct runtime *r)
{
    struct place p = place_of(r);
    if (!strcmp(r->name, "floor"))
        timed(r, "run", (char *const[]){ r->path, p.rootfs, "/sys/fs/cgroup/floor", NULL });
    else
        RUNTIME("run", "--bundle", p.bundle, p.bench);
}

/* The init process is ours to wait for: we are the subreaper that it falls to when `create` ends. */
static int wait_for_init(const char *pid_file)
{
    char text[32] = "";
    int fd = open(pid_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return -1;
    close(fd);
    alarm(COMMAND_SECONDS);
    pid_t pid = waitpid(atoi(text), NULL, 0);
    alarm(0);
    return pid < 0 ? -1 : 0;
}

static void live_once(struct runtime *r)
{
    struct place p = place_of(r);
    if (RUNTIME("create", "--bundle", p.bundle, "--pid-file", p.pid_file, p.bench) || RUNTIME("start", p.bench))
        return;
    if (wait_for_init(p.pid_file)) {
        dprintf(samples, "fail\twait\t%s\t0\n", r->name);
        r->failed = 1;
        return;
    }
    RUNTIME("delete", p.bench);
}

static void ask_once(struct runtime *r, int exec)
{
    struct place p = place_of(r);
    if (!strcmp(r->name, "nothing"))
        timed(r, exec ? "exec" : "state", (char *const[]){ r->path, "--nothing", NULL });
    else if (exec)
        RUNTIME("exec", p.still, "/bin/true");
    else
        RUNTIME("state", p.still);
}

static int once(struct runtime *r, const char *scenario)
{
    if (!strcmp(scenario, "run"))
        run_once(r);
    else if (!strcmp(scenario, "life"))
        live_once(r);
    else if (!strcmp(scenario, "state") || !strcmp(scenario, "exec"))
        ask_once(r, !strcmp(scenario, "exec"));
    else
        return -1;
    /* What a runtime left behind falls to us as well. */
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return 0;
}

static void shuffle(int *order, int count)
{
    for (int i = count - 1; i > 0; i--) {
        int other = random() % (i + 1), held = order[i];
        order[i] = order[other];
        order[other] = held;
    }
}

int main(int argc, char *argv[])
{
    struct runtime runtimes[MOST];
    int order[MOST], count = argc - 6;
    if (count < 1 || count > MOST) {
        dprintf(2, "usage: measure run|life|state|exec ROUNDS GAP_MS DIR SAMPLES NAME=PATH...\n");
        return 2;
    }
    const char *scenario = argv[1];
    int rounds = atoi(argv[2]);
    gap_ms = atoi(argv[3]);
    dir = argv[4];
    samples = open(argv[5], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (samples < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
        dprintf(2, "measure: %s: %m\n", argv[5]);
        return 2;
    }
    for (int i = 0; i < count; i++) {
        char *path = strchr(argv[6 + i], '=');
        if (!path)
            return 2;
        *path++ = 0;
        runtimes[i] = (struct runtime){ argv[6 + i], path, 0 };
        order[i] = i;
    }
    while (rounds-- > 0) {
        shuffle(order, count);
        for (int i = 0; i < count; i++)
            if (!runtimes[order[i]].failed && once(&runtimes[order[i]], scenario) < 0)
                return 2;
    }
    return 0;
}
