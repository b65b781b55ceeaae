# Prints what the steps of a run that keep a container in take, each as the difference of two medians; as a Markdown table
# if the variable markdown is 1. Loaded after stats.awk.

function of(command, name) { return key("safety", 0, command, name) }

function step(what, with, without,    a, b) {
  if (!count[with] || !count[without]) return
  a = median(with); b = median(without)
  printf (markdown ? "| %s | %d | %.0f %% |\n" : "  %-66s %6d %5.0f %%\n"), what, a - b, 100 * (a - b) / median(of("run", "proa"))
}

END {
  if (!count[of("run", "proa")]) exit
  if (markdown) {
    print "\n### What safety takes of a run\n"
    printf "Of %d µs, the median of %d runs. ", median(of("run", "proa")), count[of("run", "proa")]
    print "Differences below 50 µs are lost in the noise of most machines.\n\n| | µs | |\n|---|---|---|"
  } else {
    printf "\n== what safety takes of a run of %d µs, in µs\n", median(of("run", "proa"))
  }
  step("proa runs from a read-only copy of itself, which it makes", of("run", "proa"), of("run", "sealed"))
  step("masked paths", of("run", "proa"), of("run-no-masks", "proa"))
  step("read-only paths", of("run", "proa"), of("run-no-readonly", "proa"))
  step("a program that decides on devices", of("run", "proa"), of("run-no-devices", "proa"))
  step("no_new_privs", of("run", "proa"), of("run-no-nnp", "proa"))
  step("Docker's seccomp profile", of("run-seccomp", "proa"), of("run", "proa"))
  step("a user namespace", of("run-userns", "proa"), of("run", "proa"))
}
