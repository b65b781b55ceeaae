echo "Hello from the container: $(id), process $$ of $(ls -d /proc/[0-9]* | wc -l), host name $(hostname)"
echo "Root file system: $(awk '$5 == "/" {print $6}' /proc/self/mountinfo | cut -d, -f1), $(wc -l </proc/self/mountinfo) mounts:"
awk '{print "  " $5 " (" $(NF-2) ")"}' /proc/self/mountinfo | head -n 12
echo "Capabilities: $(awk '/CapEff/ {print $2}' /proc/self/status), no new privileges: $(awk '/NoNewPrivs/ {print $2}' /proc/self/status)"
echo "Network: $(ls /sys/class/net | tr '\n' ' ')"
touch /written 2>/dev/null || echo "The root cannot be written to, /dev/shm can: $(touch /dev/shm/x && echo yes)"
cat /proc/kcore >/dev/null 2>&1; echo "Masked: $(wc -c </proc/keys) bytes in /proc/keys"
