# Reads the samples that measure.c and inside write, and reckons with them; the other .awk files print. Variable:
# runtimes (names in the order of the rows). Percentiles are nearest rank. A ratio is that of two medians; its spread is
# the lowest and highest ratio of five consecutive parts of the run, each with a median of its own.

function key(setting, gap, command, name) { return setting SUBSEP gap SUBSEP command SUBSEP name }

# Sorts v[1..n], by Shell's method.
function sort_numbers(v, n,    step, i, j, x) {
  for (step = int(n / 2); step > 0; step = int(step / 2))
    for (i = step + 1; i <= n; i++) {
      x = v[i]
      for (j = i - step; j > 0 && v[j] > x; j -= step) v[j + step] = v[j]
      v[j + step] = x
    }
}

function rank(n, share,    r) { r = int(n * share); return r < n * share ? r + 1 : r > 0 ? r : 1 }

# A percentile of samples first..last of a key; of times unless another column is named.
function part(k, share, first, last, column,    i, n, v) {
  n = 0
  for (i = first; i <= last; i++) v[++n] = column == "cpu" ? cpu[k, i] : column == "faults" ? faults[k, i] : us[k, i]
  sort_numbers(v, n)
  return v[rank(n, share)]
}

function percentile(k, share, column) {
  if (!((k, share, column) in known)) known[k, share, column] = part(k, share, 1, count[k], column)
  return known[k, share, column]
}
function median(k) { return percentile(k, 0.5) }

# The ratio of a to b in the variable middle, its spread in low and high, which are equal where there are too few
# samples for one; 0 if one was not measured.
function compare(a, b,    i, n, m, r) {
  if (!count[a] || !count[b]) return 0
  middle = low = high = median(a) / median(b)
  n = int(count[a] / 5); m = int(count[b] / 5)
  if (n < 4 || m < 4) return 1
  for (i = 0; i < 5; i++) {
    r = part(a, 0.5, i * n + 1, i * n + n) / part(b, 0.5, i * m + 1, i * m + m)
    if (i == 0 || r < low) low = r
    if (i == 0 || r > high) high = r
  }
  return 1
}

function spread() { return sprintf("%.2f", middle) (low == high ? "" : sprintf(" (%.2f-%.2f)", low, high)) }
function ratio(a, b) { return compare(a, b) ? spread() : "-" }

# What a command of a runtime is compared with: the same of crun or runc, or its plain run; the program that does the
# least, a container for a run and nothing for the rest.
function beside(setting, gap, command, name,    k) {
  k = key(setting, gap, command, name)
  return !count[k] && command ~ /^run-/ ? key(setting, gap, "run", name) : k
}
function least_name(command) {
  return command == "parallel" ? "" : command ~ /^(run|first)/ ? "floor" : "nothing"
}
function least(setting, gap, command,    who) {
  who = least_name(command)
  return key(setting, gap, who == "floor" ? "run" : "nothing", who)
}

function title(command) {
  if (command == "run-seccomp") return "run with Docker's seccomp profile"
  if (command == "run-userns") return "run with a user namespace"
  if (command == "run-layers") return "run on five layers"
  if (command == "first") return "first run"
  if (command == "first-seccomp") return "first run with Docker's seccomp profile"
  if (command == "parallel") return "run, eight at a time, per container"
  if (command == "create-1") return "create beside 1 other"
  if (command ~ /^create-/) return "create beside " thousands(substr(command, 8)) " others"
  if (command ~ /^list-/) return "list of " thousands(substr(command, 6))
  return command
}
function thousands(n) { return n >= 1000 ? int(n / 1000) sprintf(",%03d", n % 1000) : n }

BEGIN { FS = "\t"; names = split(runtimes, name, " ") }

$1 == "fail" {
  if (!($0 in failed)) failure[++failures] = $2 ": " $4 ": " $3 " failed with status " $5
  failed[$0]
  next
}
$1 == "cost" { cost[$2, $3, $4] = $5; next }
{
  k = key($1, $2, $3, $4)
  us[k, ++count[k]] = $5 + 0; cpu[k, count[k]] = $6 + 0; faults[k, count[k]] = $7 + 0
  seen[$1, $2, $3]
}

# Scenarios of one round come in the order in which they were drawn first: print them in one that a reader expects.
function ordered(setting, gap, list,    all, n, m, i) {
  n = split("run run-seccomp first first-seccomp run-userns run-layers parallel create start delete state kill exec " \
    "create-1 create-100 create-1000 list-1000", all, " ")
  for (i = 1; i <= n; i++) if ((setting, gap, all[i]) in seen) list[++m] = all[i]
  return m + 0
}
