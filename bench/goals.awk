# Prints how what was measured stands to the goals; as a Markdown table if the variable markdown is 1. Loaded after
# stats.awk.

function line(goal, limit, value, verdict) {
  printf (markdown ? "| %s | %s | %s | %s |\n" : "  %-50s %-16s %-20s %s\n"), goal, limit, value, verdict
}

# Judges by what is printed, so that a reader can follow.
function judge(goal, sign, limit, unit, value, shown,    ok) {
  ok = sign == "<=" ? sprintf("%.2f", value) + 0 <= limit : sprintf("%.2f", value) + 0 >= limit
  line(goal, (sign == "<=" ? "at most " : "at least ") limit unit, shown, ok ? "yes" : "no")
}

function ratio_goal(goal, a, b, limit) {
  if (compare(a, b)) judge(goal, "<=", limit, "", middle, spread())
  else line(goal, "at most " limit, "-", "not measured")
}

function of(command, name) { return key("native-v2", 0, command, name) }
function against(command, other, limit) {
  ratio_goal(title(command) ", x " other, of(command, "proa"), of(command, other), limit)
}

function cost_goal(goal, what, limit, unit,    v) {
  v = cost["native-v2", what, "proa"]
  if (v + 0 > 0) judge(goal, "<=", limit, unit, v, v unit)
  else line(goal, "at most " limit unit, "-", "not measured")
}

function parallel_goal(    goal) {
  goal = "eight at a time, containers per second, x crun"
  if (compare(of("parallel", "crun"), of("parallel", "proa")))
    judge(goal, ">=", 1.8, "", middle, spread() sprintf(", %d/s", 1e6 / median(of("parallel", "proa"))))
  else
    line(goal, "at least 1.8", "-", "not measured")
}

function list_goal(    k) {
  k = of("list-1000", "proa")
  if (count[k]) judge(title("list-1000"), "<=", 20, " ms", median(k) / 1000, sprintf("%.1f ms", median(k) / 1000))
  else line(title("list-1000"), "at most 20 ms", "-", "not measured")
}

# The ratio to crun with idle gaps must not be worse than the one without: not above the highest of its five parts.
function idle_goal(command,    limit, goal) {
  goal = command " after 50 ms of idling, x crun"
  if (compare(of(command, "proa"), of(command, "crun"))) {
    limit = sprintf("%.2f", high)
    if (compare(key("native-v2", 50, command, "proa"), key("native-v2", 50, command, "crun"))) {
      judge(goal, "<=", limit, "", middle, spread())
      return
    }
  }
  line(goal, "as without", "-", "not measured")
}

END {
  if (markdown) print "| | goal | measured | met |\n|---|---|---|---|"
  ratio_goal("run, x floor", of("run", "proa"), of("run", "floor"), 1.5)
  against("run", "crun", 0.45)
  against("run", "runc", 0.16)
  ratio_goal("run with Docker's seccomp profile, x run", of("run-seccomp", "proa"), of("run", "proa"), 1.1)
  ratio_goal("first run with it, x first run", of("first-seccomp", "proa"), of("first", "proa"), 1.1)
  against("create", "crun", 0.6)
  against("start", "crun", 0.6)
  against("delete", "crun", 0.6)
  against("exec", "crun", 0.5)
  ratio_goal("state, x nothing", of("state", "proa"), of("nothing", "nothing"), 2.5)
  against("state", "crun", 0.15)
  ratio_goal("kill, x nothing", of("kill", "proa"), of("nothing", "nothing"), 2.5)
  against("kill", "crun", 0.15)
  cost_goal("system calls of a run, lines of strace -f", "calls run", 250, "")
  cost_goal("peak RSS of a run", "rss", 1.5, " MB")
  parallel_goal()
  ratio_goal("create beside 1,000 others, x beside 1", of("create-1000", "proa"), of("create-1", "proa"), 1.1)
  list_goal()
  against("list-1000", "crun", 0.5)
  n = split("run create start delete state kill exec", command, " ")
  for (i = 1; i <= n; i++) idle_goal(command[i])
  ratio_goal("run on the host's cgroups, x runc", key("hybrid", 0, "run", "proa"), key("hybrid", 0, "run", "runc"), 0.6)
}
