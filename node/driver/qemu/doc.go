// Package qemu runs virtual machines, as the image and kernel runtime of a
// server.
//
// # How a machine is kept
//
//	daemon ──▶ driver process ──▶ supervisor ──▶ qemu ──▶ guest
//	   └───────────── QMP: state, power button, quit ──┘
//
// Each qemu is a program of the process driver, which this package uses as a
// library: so it outlives the daemon and is adopted, its log is stamped, rotated
// and bounded, its limits are cgroups, and its fence is that of any program, since
// a machine is one process. What this package adds is the machine: its disks, its
// seed, its command line, and QMP, over which the daemon hears of panics and
// presses the power button. A daemon that comes back connects anew.
//
// Two starts on one disk are ruled out twice: by the lock of the task's
// supervisor, and by qemu's own on the file.
//
// # Life
//
// Start returns once qemu has set the machine up and executes it, or with what
// qemu said against it. A guest may reboot. It ends by powering itself off
// (exit code 0), by a panic of its kernel (failed, "kernel panic: …": found by
// the device pvpanic where the guest has a driver for that, else by the line on
// the console), or by Stop: the power button, again every 3 s; after the grace
// quit, and then SIGKILL. A machine has no exit code of its own.
//
// # Disks
//
//	Dir/machines/<id>/  machine.json; disk.qcow2, over the image; control sockets
//	Dir/parked/<id>-…/  disks of machines that were stopped, for 7 days
//	Dir/programs/       of the process driver: logs
//
// An image is a backing file, never written to, and looked at before its first
// use: its format goes by its first bytes, one that is truncated or damaged is
// refused, and so is one that names other files, which would show the guest files
// of this host. A restart in place keeps the disk; after Stop it is parked. A
// volume is a raw file in the volume's folder.
//
// # Inside
//
// The console is the first serial port. Everything is virtio; the disks are
// /dev/disk/by-id/virtio-disk, virtio-seed and virtio-<volume>. The seed (ISO
// 9660, labelled "cidata" with cloud-init and "HANSA" without) holds the
// environment and the files: see seedFiles. The machine has 10.0.2.15 on a
// network of its own, where DHCP answers and from where it reaches what this host
// reaches, this host's own ports at 10.0.2.2 included; the ports of the task are
// forwarded to it. A second interface joins a bridge where that is asked for and
// allowed.
//
// # Acceleration
//
// KVM is used where a machine of a few instructions really runs with it; that
// /dev/kvm opens and answers is not enough. Otherwise machines are emulated, and
// Probe says why.
package qemu
