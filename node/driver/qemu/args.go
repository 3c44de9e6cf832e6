package qemu

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/hansa-mesh/hansa/node/driver"
)

// layout is what a machine is made of, once its files are there.
type layout struct {
	tools   tools
	accel   string // "kvm" or "tcg"
	disk    image  // Size 0: it has none
	seed    string
	volumes []string // files, as Task.Volumes has them
	tap     string   // name of its interface on the bridge
	user    int      // whom qemu becomes once all is open; 0 stays who it is
}

// machineArgs is the command line of qemu. What stands in it everybody on this host
// can read: so nothing secret does. Paths without a slash are within the
// machine's folder, where qemu runs, since those of sockets must be short.
func machineArgs(t *driver.Task, l layout) []string {
	m := t.Machine
	args := []string{
		l.tools.qemu, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35", "-m", strconv.FormatInt(memory(t)>>20, 10) + "M", "-smp", strconv.Itoa(cores(t)),
		"-rtc", "base=utc", "-device", "virtio-rng-pci",
		// A guest that broke into its qemu finds a process that can start no other, in
		// a user that has nothing else: all files are open by then.
		"-sandbox", "on,obsolete=deny,spawn=deny,resourcecontrol=deny",
		"-qmp", "unix:" + qmpSocket + ",server=on,wait=off",
		// The console goes to the log by qemu itself, whoever is attached or not.
		"-chardev", "socket,id=console,path=" + consoleSock + ",server=on,wait=off,logfile=/dev/stdout,logappend=on",
		"-serial", "chardev:console",
		// A guest reboots as it likes; one that panics is at its end.
		"-device", "pvpanic", "-action", "panic=exit-failure",
	}
	if l.user > 0 {
		name := strconv.Itoa(l.user) + ":" + strconv.Itoa(l.user)
		if l.tools.runWith() {
			args = append(args, "-run-with", "user="+name)
		} else {
			args = append(args, "-runas", name)
		}
	}
	if l.accel == accelKVM {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		args = append(args, "-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", codeCache>>20), "-cpu", "max")
	}
	if m.Kernel != "" {
		args = append(args, "-kernel", t.Artifacts[m.Kernel], "-append", strings.TrimSpace("console=ttyS0 "+m.Append))
	}
	if m.Initrd != "" {
		args = append(args, "-initrd", t.Artifacts[m.Initrd])
	}
	if l.disk.Size > 0 {
		// The backing file is named here too: what the overlay's header says of it
		// was written at another time, perhaps in another data folder.
		disk := "if=none,id=disk,discard=unmap,format=qcow2,file=" + overlayFile
		if m.Image != "" {
			disk += ",backing.driver=" + l.disk.Format + ",backing.file.driver=file,backing.file.filename=" + comma(t.Artifacts[m.Image])
		}
		args = append(args, "-drive", disk, "-device", "virtio-blk-pci,drive=disk,serial=disk,bootindex=1")
	}
	args = append(args, "-drive", "if=none,id=seed,format=raw,readonly=on,file="+comma(l.seed), "-device", "virtio-blk-pci,drive=seed,serial=seed")
	for i, file := range l.volumes {
		id := "volume" + strconv.Itoa(i)
		args = append(args, "-drive", "if=none,id="+id+",format=raw,discard=unmap,file="+comma(file),
			"-device", "virtio-blk-pci,drive="+id+",serial="+serial(t.Volumes[i].Name))
	}
	return append(args, networkArgs(t, l)...)
}

// networkArgs gives the machine its interfaces: one behind qemu's own network, on
// which its ports are forwarded, and one on a bridge of the host if it asks for
// that. One that has a bridge and no ports has the bridge alone.
func networkArgs(t *driver.Task, l layout) []string {
	var args []string
	if t.Machine.Bridge == "" || len(t.Ports) > 0 {
		net := "user,id=net"
		for _, name := range slices.Sorted(maps.Keys(t.Ports)) {
			p := t.Ports[name]
			host, port := hostPort(t, name)
			net += fmt.Sprintf(",hostfwd=tcp:%s:%s-:%d", host, port, p.Inside)
		}
		args = append(args, "-netdev", net, "-device", "virtio-net-pci,netdev=net,romfile=,mac="+mac(t.ID, 0))
	}
	if t.Machine.Bridge != "" {
		args = append(args, "-netdev", "tap,id=bridge,script=no,downscript=no,ifname="+l.tap,
			"-device", "virtio-net-pci,netdev=bridge,romfile=,mac="+mac(t.ID, 1))
	}
	return args
}

// hostPort is where a port of the machine is reached on this host.
func hostPort(t *driver.Task, name string) (host, port string) {
	host, port, _ = net.SplitHostPort(t.HostPorts()[name]) // Validate has seen it
	return host, port
}

// check says what of a task no qemu could do.
func check(t *driver.Task, bridges []string) error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w %q: %s", driver.ErrInvalid, t.ID, fmt.Sprintf(format, args...))
	}
	for name, p := range t.Ports {
		host, _ := hostPort(t, name)
		if ip := net.ParseIP(host); host != "" && (ip == nil || ip.To4() == nil) {
			return invalid("port %q: %q: only ports of IPv4 addresses are forwarded to a machine", name, host)
		}
		if p.Inside < 1 || p.Inside > 65535 {
			return invalid("port %q: %d is not a port inside", name, p.Inside)
		}
	}
	if b := t.Machine.Bridge; b != "" && !slices.Contains(bridges, b) {
		return invalid("the bridge %q is not among those that this host gives to machines (%s)", b, listed(bridges))
	}
	serials := map[string]string{}
	for _, v := range t.Volumes {
		if other := serials[serial(v.Name)]; other != "" {
			return invalid("the volumes %s and %s are one name to a machine, which sees %d letters: rename one", other, v.Name, serialMax)
		}
		serials[serial(v.Name)] = v.Name
	}
	switch {
	case len(t.Devices) > 0:
		return invalid("accelerators can't be given to a machine")
	case t.Memory > 0 && t.Memory < memoryMin:
		return invalid("%d bytes of memory are no machine's: %d MiB is the least", t.Memory, memoryMin>>20)
	case cores(t) > coresMax:
		return invalid("%d cores are over %d", cores(t), coresMax)
	}
	return nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return "it gives none"
	}
	return strings.Join(names, ", ")
}

// cores is what the machine sees: the share of them is held by a cgroup.
func cores(t *driver.Task) int { return int(max(1, (t.CPU+999)/1000)) }

// memory is what the guest has.
func memory(t *driver.Task) int64 {
	if t.Memory == 0 {
		return memoryDefault
	}
	return t.Memory
}

// serialMax is how much of a disk's name virtio shows.
const serialMax = 20

// serial is the name of a volume as a machine sees it, in
// /dev/disk/by-id/virtio-NAME.
func serial(name string) string { return name[:min(len(name), serialMax)] }

// comma keeps qemu from reading a path as more than one.
func comma(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// mac is the address of one of a machine's interfaces: the same at each start.
func mac(id string, n byte) string {
	sum := sha256.Sum256(append([]byte(id), n))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}

// Users without privileges, one for each machine, beyond those of programs.
const (
	userFirst = 0x49000000
	userCount = 1 << 24
)

// userOf is whom a machine's qemu becomes, where the daemon is root.
func userOf(id string) int {
	sum := sha256.Sum256([]byte(id))
	return userFirst + int(binary.BigEndian.Uint32(sum[:])%userCount)
}

// tapName is that of a machine's interface on a bridge: at most 15 letters.
func tapName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("hv%x", sum[:6])
}
