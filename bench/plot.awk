# Draws the medians on native cgroup v2, back to back, as bars with whiskers from p5 to p95: an SVG whose colours can be
# read on white and on black. Loaded after stats.awk.

function colour(who) {
  if (who == "proa") return "#12957d"
  if (who == "crun") return "#7d7fd6"
  if (who == "runc") return "#d9822b"
  if (who == "runc-new") return "#c2a01f"
  if (who == "floor" || who == "nothing") return "#8a8f98"
  return "#c95f9b"
}

function x(us) { return LEFT + us * scale }

# The bar of a row whose upper edge is at y; 0 if there are no samples for it.
function bar(command, who, y,    k, low_end, high_end, mid) {
  k = key("native-v2", 0, command, who)
  if (!count[k]) return 0
  low_end = percentile(k, 0.05); high_end = percentile(k, 0.95); mid = y + BAR / 2
  body = body sprintf("<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", LEFT, y + 1,
    median(k) * scale, BAR - 2, colour(who))
  body = body sprintf("<path class=\"whisker\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\"/>\n", x(low_end), mid,
    x(high_end), x(low_end), mid - 3, x(high_end), mid - 3)
  body = body sprintf("<text x=\"%.1f\" y=\"%.1f\">%.2f</text>\n", x(high_end) + 5, mid + 4, median(k) / 1000)
  body = body sprintf("<text class=\"who\" x=\"%d\" y=\"%.1f\">%s</text>\n", LEFT - 6, mid + 4, who)
  return 1
}

END {
  WIDTH = 860; LEFT = 235; RIGHT = 60; BAR = 13
  n = split("run run-seccomp run-userns run-layers create start exec state kill delete", command, " ")
  names = split(runtimes " floor nothing", name, " ")
  for (i = 1; i <= n; i++)
    for (j = 1; j <= names; j++) {
      k = key("native-v2", 0, command[i], name[j])
      if (count[k] && percentile(k, 0.95) > longest) longest = percentile(k, 0.95)
    }
  if (!longest) exit
  scale = (WIDTH - LEFT - RIGHT) / longest
  y = 44
  for (i = 1; i <= n; i++) {
    first = y
    for (j = 1; j <= names; j++) if (bar(command[i], name[j], y)) y += BAR
    if (command[i] ~ /^(create|start|exec|state|kill|delete)$/ && bar("nothing", "nothing", y)) y += BAR
    if (y == first) continue
    label = title(command[i]); sub(/Docker's /, "", label); sub(/ profile/, "", label)
    sub(/run with a user namespace/, "run, user namespace", label); sub(/run with /, "run, ", label)
    sub(/run on /, "run, ", label)
    body = body sprintf("<text class=\"command\" x=\"8\" y=\"%.1f\">%s</text>\n", first + BAR / 2 + 4, label)
    y += 12
  }
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n",
    WIDTH, y, WIDTH, y
  print "<title>What each command takes, in milliseconds</title>"
  print "<style>\ntext { font: 11px sans-serif; fill: #7a808a }\n.who { text-anchor: end }"
  print ".command, .head { font-weight: bold; font-size: 12px }"
  print ".whisker { stroke: #6d737c; stroke-width: 1.5; fill: none }"
  print "@media (prefers-color-scheme: dark) { text { fill: #a9b0bb } .whisker { stroke: #c9d1d9 } }\n</style>"
  printf "<text class=\"head\" x=\"8\" y=\"18\">%s</text>\n",
    "Milliseconds, less is better: medians, with whiskers from p5 to p95"
  printf "<text x=\"8\" y=\"33\">%s</text>\n",
    "native cgroup v2, back to back; floor: the least for such a container, nothing: for a program"
  printf "%s</svg>\n", body
}
