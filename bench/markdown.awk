# Prints what was measured in a setting as Markdown tables. Variable: setting. Loaded after stats.awk.

function ms(k, share) { return count[k] ? sprintf("%.2f", percentile(k, share) / 1000) : "" }

# A row of proa's own times, those of the others, and the ratios.
function row(gap, command,    i, k, who, line) {
  k = key(setting, gap, command, "proa")
  if (!count[k]) return
  line = "| " title(command) " | " ms(k, 0) " | **" ms(k, 0.5) "** | " ms(k, 0.95)
  for (i = 1; i <= names; i++)
    if (name[i] != "proa") line = line " | " ms(key(setting, gap, command, name[i]), 0.5)
  print line " | " ms(least(setting, gap, command), 0.5) " | " ratio(k, beside(setting, gap, command, "crun")) " | " \
    ratio(k, beside(setting, gap, command, "runc")) " | " ratio(k, least(setting, gap, command)) " | " \
    percentile(k, 0.5, "faults") " | " count[k] " |"
}

function times(gap,    i, n, list, head, rule) {
  n = ordered(setting, gap, list)
  if (!n) return
  head = "| ms | proa min | proa p50 | proa p95"; rule = "|---|---|---|---"
  for (i = 1; i <= names; i++) if (name[i] != "proa") { head = head " | " name[i] " p50"; rule = rule "|---" }
  printf "\n### %s, %s\n\n", setting == "native-v2" ? "Native cgroup v2" : "The host's cgroups",
    (gap > 0 ? gap " ms idle before each" : "back to back")
  print head " | least p50 | × crun | × runc | × least | faults | n |"
  print rule "|---|---|---|---|---|---|"
  for (i = 1; i <= n; i++) row(gap, list[i])
}

function costs(    i, j, n, what, line, head, all, last) {
  n = split("run|run-seccomp|create|start|delete|state|kill|exec", what, "|")
  printf "\n### %s, memory, size, system calls\n\n", setting == "native-v2" ? "Native cgroup v2" : "The host's cgroups"
  head = "| | peak RSS, MB | size, MB | libraries, MB"
  for (j = 1; j <= n; j++) head = head " | " what[j]
  print head " |"; gsub(/[^|]+/, "---", head); print head "|"
  last = split(runtimes " floor", all, " ")
  for (i = 1; i <= last; i++) {
    if (!((setting, "size", all[i]) in cost)) continue
    line = "| " all[i] " | " cost[setting, "rss", all[i]] " | " cost[setting, "size", all[i]]
    line = line " | " cost[setting, "libraries", all[i]]
    for (j = 1; j <= n; j++) line = line " | " cost[setting, "calls " what[j], all[i]]
    print line " |"
  }
}

END { times(0); times(50); if ((setting, 0, "run") in seen) costs() }
