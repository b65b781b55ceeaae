/* measure: runs container runtimes in turn and writes down what each command took.
 *
 *   measure ROUNDS GAP_MS DIR SAMPLES SETTING SCENARIO[,SCENARIO...] NAME=PATH...
 *   measure --adopt COMMAND ARG...   becomes COMMAND, to which all its orphans fall: a machine's init may be slow to
 *                                    wait for the thousands of processes that containers leave
 *
 * One round runs every scenario of every runtime once, in an order drawn anew each round, so that whatever the machine
 * is doing meets all alike and none always follows the same neighbour. Before every timed command it sleeps GAP_MS.
 *
 *   run           `run` of DIR/bundle from start to end, its program included; NAME floor has arguments of its own
 *   run-BUNDLE    the same of DIR/BUNDLE; run-layers by proa alone
 *   first, first-BUNDLE   the same with a new folder for states, as for the first container after a boot
 *   parallel      forty `run` of DIR/bundle, eight at a time; the sample is the time of all divided by forty
 *   life          `create`, `start` (then the program's end, not timed), `delete`
 *   create-N      only the `create` of a life; N is the number of other containers that the caller keeps
 *   list-N        `list`
 *   state, kill, exec     of the running container still-NAME: kill with a signal that ends nothing, exec of /bin/true
 *   nothing       a program that does nothing, by NAME nothing alone
 *
 * A runtime keeps its state in DIR/state/NAME. A sample is a line of SAMPLES: SETTING, gap, command, NAME,
 * microseconds, and of the process and those of its descendants that it waited for (wait4(2)) microseconds of CPU, user
 * and system, and pages faulted in. A command that fails gives one line "fail SETTING COMMAND NAME STATUS", and its
 * runtime is left out of that scenario from then on. Standard output is the commands'.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_TASKS = 256, MOST_SCENARIOS = 16, COMMAND_SECONDS = 60, AT_ONCE = 8, IN_ALL = 40 };

/* One scenario of one runtime. */
struct task {
    const char *scenario, *name, *path;
    int failed;
};

static const char *dir, *setting;
static int gap_ms, samples;
extern char **environ;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static long cpu_of(const struct rusage *u)
{
    return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000L + u->ru_utime.tv_usec + u->ru_stime.tv_usec;
}

static void write_sample(const struct task *t, const char *command, double us, long cpu, long faults)
{
    dprintf(samples, "%s\t%d\t%s\t%s\t%.1f\t%ld\t%ld\n", setting, gap_ms, command, t->name, us, cpu, faults);
}

static void idle(void)
{
    struct timespec gap = { gap_ms / 1000, gap_ms % 1000 * 1000000L };
    nanosleep(&gap, NULL);
}

static int failed(struct task *t, const char *command, int status)
{
    dprintf(samples, "fail\t%s\t%s\t%s\t%d\n", setting, command, t->name,
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    t->failed = 1;
    return -1;
}

/* Runs one command and writes its sample under LABEL, if there is one; -1 if it failed. */
static int timed(struct task *t, const char *label, char *const argv[])
{
    struct rusage usage;
    pid_t pid;
    int status = 127 << 8;

    if (label)
        idle();
    alarm(COMMAND_SECONDS);
    double start = now();
    if (!posix_spawn(&pid, argv[0], NULL, NULL, argv, environ))
        wait4(pid, &status, 0, &usage);
    double end = now();
    alarm(0);

    if (status)
        return failed(t, label ? label : t->scenario, status);
    if (label)
        write_sample(t, label, end - start, cpu_of(&usage), usage.ru_minflt);
    return 0;
}

/* Where a runtime's things are. */
struct place {
    char root[512], first[512], bundle[512], rootfs[512], pid_file[512], bench[64], still[64];
};

static struct place place_of(const struct task *t, const char *bundle)
{
    struct place p;
    snprintf(p.root, sizeof p.root, "%s/state/%s", dir, t->name);
    snprintf(p.first, sizeof p.first, "%s/state/%s-first", dir, t->name);
    snprintf(p.bundle, sizeof p.bundle, "%s/%s", dir, bundle);
    snprintf(p.rootfs, sizeof p.rootfs, "%s/rootfs", dir);
    snprintf(p.pid_file, sizeof p.pid_file, "%s/pid-%s", dir, t->name);
    snprintf(p.bench, sizeof p.bench, "bench-%s", t->name);
    snprintf(p.still, sizeof p.still, "still-%s", t->name);
    return p;
}

/* A command of the runtime's: PATH --root STATE WORDS... */
#define RUNTIME(label, root, ...) \
    timed(t, label, (char *const[]){ (char *)t->path, "--root", root, __VA_ARGS__, NULL })

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* BUNDLE is the scenario behind its first word and a hyphen, if there is one. */
static const char *bundle_of(const char *scenario)
{
    const char *hyphen = strchr(scenario, '-');
    return hyphen ? hyphen + 1 : "bundle";
}

static void run_once(struct task *t)
{
    struct place p = place_of(t, bundle_of(t->scenario));
    if (!strcmp(t->name, "floor"))
        timed(t, "run", (char *const[]){ (char *)t->path, p.rootfs, "/sys/fs/cgroup/floor", NULL });
    else
        RUNTIME(t->scenario, p.root, "run", "--bundle", p.bundle, p.bench);
}

static void run_first(struct task *t)
{
    struct place p = place_of(t, bundle_of(t->scenario));
    nftw(p.first, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    RUNTIME(t->scenario, p.first, "run", "--bundle", p.bundle, p.bench);
}

/* Starts one more container in a slot; 0 if that cannot be done. */
static pid_t start_one(struct task *t, struct place *p, int number)
{
    char id[96];
    pid_t pid;
    snprintf(id, sizeof id, "%s-%d", p->bench, number);
    char *const argv[] = { (char *)t->path, "--root", p->root, "run", "--bundle", p->bundle, id, NULL };
    return posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) ? 0 : pid;
}

static void run_parallel(struct task *t)
{
    struct place p = place_of(t, "bundle");
    pid_t slots[AT_ONCE] = { 0 };
    int started = 0, ended = 0, bad = 0, status;
    long cpu = 0, faults = 0;

    idle();
    alarm(COMMAND_SECONDS);
    double start = now();
    while (started < AT_ONCE)
        slots[started] = start_one(t, &p, started), started++;
    while (ended < IN_ALL) {
        struct rusage usage;
        pid_t pid = wait4(-1, &status, 0, &usage);
        if (pid < 0)
            break;
        for (int i = 0; i < AT_ONCE; i++) {
            if (slots[i] != pid)
                continue; /* an orphan of a runtime's */
            ended++, cpu += cpu_of(&usage), faults += usage.ru_minflt, bad = status ? status : bad;
            slots[i] = started < IN_ALL ? start_one(t, &p, started++) : 0;
        }
    }
    double us = now() - start;
    alarm(0);
    if (bad || ended < IN_ALL)
        failed(t, t->scenario, bad);
    else
        write_sample(t, t->scenario, us / IN_ALL, cpu / IN_ALL, faults / IN_ALL);
}

/* The init process is ours to wait for: we are the subreaper that it falls to when `create` ends. */
static int wait_for_init(const char *pid_file)
{
    char text[32] = "";
    int fd = open(pid_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return -1;
    alarm(COMMAND_SECONDS);
    pid_t pid = waitpid(atoi(text), NULL, 0);
    alarm(0);
    return pid < 0 ? -1 : 0;
}

static void live_once(struct task *t)
{
    struct place p = place_of(t, "bundle");
    int whole = !strcmp(t->scenario, "life");
    const char *create = whole ? "create" : t->scenario;
    if (RUNTIME(create, p.root, "create", "--bundle", p.bundle, "--pid-file", p.pid_file, p.bench) ||
        RUNTIME(whole ? "start" : NULL, p.root, "start", p.bench))
        return;
    if (wait_for_init(p.pid_file))
        failed(t, "wait", 0);
    else
        RUNTIME(whole ? "delete" : NULL, p.root, "delete", p.bench);
}

/* What a failed command may have left must not be in the way of the next scenario. */
static void clear_away(const struct task *t, struct place *p)
{
    char *const argv[] = { (char *)t->path, "--root", p->root, "delete", "--force", p->bench, NULL };
    pid_t pid;
    alarm(COMMAND_SECONDS);
    if (!posix_spawn(&pid, argv[0], NULL, NULL, argv, environ))
        waitpid(pid, NULL, 0);
    alarm(0);
}

static int once(struct task *t)
{
    struct place p = place_of(t, "bundle");
    const char *s = t->scenario;
    if (!strncmp(s, "run", 3))
        run_once(t);
    else if (!strncmp(s, "first", 5))
        run_first(t);
    else if (!strcmp(s, "parallel"))
        run_parallel(t);
    else if (!strcmp(s, "life") || !strncmp(s, "create-", 7))
        live_once(t);
    else if (!strncmp(s, "list-", 5))
        RUNTIME(s, p.root, "list");
    else if (!strcmp(s, "state"))
        RUNTIME(s, p.root, "state", p.still);
    else if (!strcmp(s, "kill")) /* the first process of a pid namespace gets no TERM that it does not handle */
        RUNTIME(s, p.root, "kill", p.still, "TERM");
    else if (!strcmp(s, "exec"))
        RUNTIME(s, p.root, "exec", p.still, "/bin/true");
    else if (!strcmp(s, "nothing"))
        timed(t, s, (char *const[]){ (char *)t->path, "--nothing", NULL });
    else
        return -1;
    if (t->failed)
        clear_away(t, &p);
    /* What a runtime left behind falls to us as well. */
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return 0;
}

/* Whether NAME takes part in a scenario. */
static int takes(const char *name, const char *scenario)
{
    if (!strcmp(name, "floor"))
        return !strcmp(scenario, "run");
    if (!strcmp(name, "nothing") || !strcmp(scenario, "nothing"))
        return !strcmp(name, scenario);
    return strcmp(scenario, "run-layers") || !strcmp(name, "proa");
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
    static struct task tasks[MOST_TASKS];
    char *scenarios[MOST_SCENARIOS];
    int order[MOST_TASKS], count = 0, many = 0;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
        dprintf(2, "measure: subreaper: %m\n");
        return 2;
    }
    if (argc > 2 && !strcmp(argv[1], "--adopt")) {
        execvp(argv[2], argv + 2);
        dprintf(2, "measure: %s: %m\n", argv[2]);
        return 127;
    }
    if (argc < 8) {
        dprintf(2, "usage: measure ROUNDS GAP_MS DIR SAMPLES SETTING SCENARIO[,SCENARIO...] NAME=PATH...\n");
        return 2;
    }
    int rounds = atoi(argv[1]);
    gap_ms = atoi(argv[2]);
    dir = argv[3];
    setting = argv[5];
    samples = open(argv[4], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (samples < 0) {
        dprintf(2, "measure: %s: %m\n", argv[4]);
        return 2;
    }
    for (char *s = strtok(argv[6], ","); s && many < MOST_SCENARIOS; s = strtok(NULL, ","))
        scenarios[many++] = s;
    for (int i = 7; i < argc; i++) {
        char *path = strchr(argv[i], '=');
        if (!path)
            return 2;
        *path++ = 0;
        for (int j = 0; j < many; j++)
            if (count < MOST_TASKS && takes(argv[i], scenarios[j])) {
                order[count] = count;
                tasks[count++] = (struct task){ scenarios[j], argv[i], path, 0 };
            }
    }
    while (rounds-- > 0) {
        shuffle(order, count);
        for (int i = 0; i < count; i++)
            if (!tasks[order[i]].failed && once(&tasks[order[i]]) < 0)
                return 2;
    }
    return 0;
}
