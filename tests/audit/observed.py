"""Recorded output of the kernel for the reference's hardened image under the recommended flags."""

STATUS = """Name:\tpython
Umask:\t0022
State:\tS (sleeping)
Pid:\t331
Uid:\t1000\t1000\t1000\t1000
Gid:\t1000\t1000\t1000\t1000
Groups:\t1000
NSpid:\t331\t1
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t1
"""
MOUNTS = """96 69 0:40 / / ro,relatime - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d,uuid=on
98 96 0:43 / /tmp rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=65536k
97 96 0:44 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
99 96 0:45 / /dev rw,nosuid,noexec - tmpfs tmpfs rw,size=65536k,mode=755
100 96 0:46 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
101 99 0:47 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620,ptmxmode=666
102 99 0:42 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
103 96 254:0 /run/x/resolv.conf /etc/resolv.conf ro,nosuid,nodev,noexec,relatime - ext4 /dev/vda rw,discard
105 99 0:39 / /dev/shm ro,nosuid,nodev,noexec,relatime - tmpfs tmpfs ro,size=4k
108 100 0:48 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
109 108 0:29 /libpod_parent/libpod-a1 /sys/fs/cgroup/cpu ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,cpu
70 97 0:44 /bus /proc/bus ro,nosuid,nodev,noexec,relatime - proc proc rw
75 97 0:45 /null /proc/keys rw,nosuid,noexec - tmpfs tmpfs rw,size=65536k,mode=755
"""
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 5964082 1 0 100 0 0 10 0
   1: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 5964083 1 0 100 0 0 10 0
   2: 0100007F:9C40 0100007F:1F41 01 00000000:00000000 00:00000000 00000000  1000        0 5964084 1 0 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000001000000:1F42 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: B80D0120000000000000000001000000:1F43 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
"""
ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100580A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
CLOSED = "\n".join(line for line in ROUTE.splitlines() if "\t00000000\t0100580A" not in line)
ROUTE6 = (
    "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
)
WAY_OUT6 = ROUTE6.replace("00200200       lo", "00200200     eth1")
