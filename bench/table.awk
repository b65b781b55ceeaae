# Makes tables of the samples that measure.c writes. Variables: runtimes (names in the order of the rows).
# Percentiles are nearest rank. A ratio is that of two medians; its spread is the lowest and highest ratio of five
# consecutive parts of the run, each with a median of its own.

function key(gap, command, name) { return gap SUBSEP command SUBSEP name }

# Sorted samples first..last of a key into s[1..]; their number.
function sorted(k, first, last,    i, j, n, x) {
  n = 0
  for (i = first; i <= last; i++) {
    x = us[k, i]
    for (j = n++; j > 0 && s[j] > x; j--) s[j + 1] = s[j]
    s[j + 1] = x
  }
  return n
}

function rank(n, share,    r) { r = int(n * share); return r < n * share ? r + 1 : r > 0 ? r : 1 }
function median(k, first, last,    n) { n = sorted(k, first, last); return s[rank(n, 0.5)] }

# The ratio of a to b, with its spread where there are enough samples for one.
function ratio(a, b,    i, n, m, r, low, high, text) {
  if (!count[a] || !count[b]) return "-"
  text = sprintf("%.2f", median(a, 1, count[a]) / median(b, 1, count[b]))
  n = int(count[a] / 5); m = int(count[b] / 5)
  if (n < 4 || m < 4) return text
  for (i = 0; i < 5; i++) {
    r = median(a, i * n + 1, i * n + n) / median(b, i * m + 1, i * m + m)
    if (i == 0 || r < low) low = r
    if (i == 0 || r > high) high = r
  }
  return text sprintf(" (%.2f-%.2f)", low, high)
}

function middle_cpu(k,    i, j, n, x) {
  for (i = 1; i <= count[k]; i++) {
    x = cpu[k, i]
    for (j = n++; j > 0 && s[j] > x; j--) s[j + 1] = s[j]
    s[j + 1] = x
  }
  return s[rank(n, 0.5)]
}

function row(gap, command, name,    k, n, base) {
  k = key(gap, command, name)
  if (!(n = count[k])) return
  base = command == "run" ? "floor" : "nothing"
  sorted(k, 1, n)
  printf "  %-8s %8.2f %8.2f %8.2f", name, s[rank(n, 0.5)] / 1000, s[1] / 1000, s[rank(n, 0.95)] / 1000
  printf "   %-18s %-20s", ratio(k, key(gap, command, "crun")), ratio(k, key(gap, command, base))
  printf " %7.2f %6d\n", middle_cpu(k) / 1000, n
}

BEGIN { FS = "\t"; names = split(runtimes " nothing floor", name, " ") }

$1 == "fail" && $0 in failed { next }
$1 == "fail" { failed[$0]; failures = failures "  " $3 ": " $2 " failed with status " $4 "\n"; next }
{
  k = key($1, $2, $3)
  us[k, ++count[k]] = $4
  cpu[k, count[k]] = $5
  if (!seen[$1, $2]++) order[++tables] = $1 SUBSEP $2
}

END {
  for (t = 1; t <= tables; t++) {
    split(order[t], part, SUBSEP)
    print "\n" part[2] ", " (part[1] > 0 ? part[1] " ms idle before each" : "back to back") ", ms"
    printf "  %-8s %8s %8s %8s   %-18s %-20s %7s %6s\n", "", "p50", "min", "p95", "x crun",
      part[2] == "run" ? "x floor" : "x nothing", "cpu p50", "n"
    for (i = 1; i <= names; i++) row(part[1], part[2], name[i])
  }
  if (failures) printf "\nleft out:\n%s", failures
}
