package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/testbed/links"
)

const (
	// device is the interface of each host.
	device = "hansa0"
	// packetMax is the MTU of the interfaces.
	packetMax = 1500
	// hostsMax bounds the hosts of a switch: what fits the last byte of an
	// address.
	hostsMax = 250
)

// Switch is the network between hosts.
type Switch struct {
	*links.Net

	mu    sync.Mutex // guards what follows
	hosts map[netip.Addr]*Host
	last  int
}

// Host is one namespace.
type Host struct {
	Name string
	Addr netip.Addr

	space  *os.File // the namespace
	tunnel *os.File // its interface
}

// ErrNotAllowed says that this process may not make namespaces.
var ErrNotAllowed = errors.New("network namespaces need root and /dev/net/tun")

// New makes a switch whose links are all as usual says.
func New(usual links.Link) *Switch {
	return &Switch{Net: links.New(usual), hosts: map[netip.Addr]*Host{}}
}

// Add makes a host. Call it before Run.
func (s *Switch) Add(name string) (*Host, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last >= hostsMax {
		return nil, fmt.Errorf("netns: add %s: at most %d hosts", name, hostsMax)
	}
	if !s.Join(name) {
		return nil, fmt.Errorf("netns: add %s: added already", name)
	}
	s.last++
	h := &Host{Name: name, Addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(s.last)})}
	if err := h.make(); err != nil {
		return nil, errors.Join(fmt.Errorf("netns: add %s: %w", name, err), h.close())
	}
	s.hosts[h.Addr] = h
	return h, nil
}

// make makes the namespace and its interfaces.
func (h *Host) make() error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("%w: %w", ErrNotAllowed, err)
		}
		var err error
		if h.space, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if err := h.open(); err != nil {
			return err
		}
		return h.configure()
	})
}

// open opens the interface of the namespace that this thread is in.
func (h *Host) open() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotAllowed, err)
	}
	request, err := unix.NewIfreq(device)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make %s: %w", device, err), unix.Close(fd))
	}
	h.tunnel = os.NewFile(uintptr(fd), device)
	return nil
}

// configure gives the interface its address, and brings it and loopback up.
func (h *Host) configure() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	addr := h.Addr.As4()
	for _, step := range []struct {
		what string
		on   string
		call uint
		set  func(*unix.Ifreq) error
	}{
		{"address", device, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(addr[:]) }},
		{"netmask", device, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{"MTU", device, unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(packetMax); return nil }},
		{"flags", device, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
		{"flags", "lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		request, err := unix.NewIfreq(step.on)
		if err == nil {
			err = step.set(request)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, step.call, request)
		}
		if err != nil {
			return fmt.Errorf("set the %s of %s: %w", step.what, step.on, err)
		}
	}
	return nil
}

// onThread runs f on a thread that may enter other namespaces, and brings it
// back. One that can't come back is thrown away with its goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// inside runs f on a thread that is in the host's namespace. What f starts on
// other goroutines is outside.
func (h *Host) inside(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(h.space.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netns: enter %s: %w", h.Name, err)
		}
		return f()
	})
}

// Start starts a command inside: a child is born into its parent thread's
// namespace.
func (h *Host) Start(cmd *exec.Cmd) error { return h.inside(cmd.Start) }

// Dial connects to an address, with its IP, as seen from inside.
func (h *Host) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("netns: dial from %s: %w", h.Name, err) // a name would be looked up on another thread
	}
	err = h.inside(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Run carries packets until ctx ends, and then frees the hosts.
func (s *Switch) Run(ctx context.Context) error {
	s.mu.Lock()
	var hosts []*Host
	for _, h := range s.hosts {
		hosts = append(hosts, h)
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() { s.receive(h) })
	}
	wg.Go(func() { s.Net.Run(ctx) })
	<-ctx.Done()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.close())
	}
	wg.Wait()
	return errors.Join(errs...)
}

// receive takes what a host sends.
func (s *Switch) receive(from *Host) {
	buffer := make([]byte, packetMax)
	for {
		n, err := from.tunnel.Read(buffer)
		if err != nil {
			return // closed
		}
		to := s.to(buffer[:n])
		if to == nil {
			s.Drop() // IPv6's own chatter, or nobody
			continue
		}
		s.Send(from.Name, to.Name, buffer[:n], func(data []byte) {
			_, _ = to.tunnel.Write(data) // what can't be written is a lost packet
		})
	}
}

// Of an IPv4 header.
const (
	headerLen = 20
	destAt    = 16
)

// to is the host that a packet is for, or nil.
func (s *Switch) to(data []byte) *Host {
	if len(data) < headerLen || data[0]>>4 != 4 {
		return nil
	}
	addr := netip.AddrFrom4([4]byte(data[destAt:headerLen]))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts[addr]
}

func (h *Host) close() error {
	var errs []error
	for _, f := range []*os.File{h.tunnel, h.space} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
