package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/boottime"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

const (
	sweepInterval = 5 * time.Millisecond // between looks at what is still there
	killPatience  = 5 * time.Second      // for the kernel to end what was killed
	drainPatience = 2 * time.Second      // for output of what could not be killed
	reportFd      = 3                    // of the supervisor: one report to the daemon
	lockFd        = 4                    // of the supervisor: the task's lock, held
	orderFd       = 5                    // of the supervisor: the memory that says what to do
)

// report is the supervisor's one message to the daemon that started it.
type report struct {
	Run   *runRecord `json:"run,omitempty"`
	Error string     `json:"error,omitempty"`
}

// SupervisorMain is the whole program of a supervisor, or of the launcher that
// becomes the supervised program. It returns the exit code.
func SupervisorMain(args []string) int {
	// The kernel kills the program when the *thread* that forked it ends, so
	// everything below happens on the main thread, which lives to the end.
	runtime.LockOSThread()
	if len(args) == 2 && args[1] == launchArg {
		return launch()
	}
	if len(args) == 2 && args[1] == wardenArg {
		return warden()
	}
	if len(args) == 3 && args[1] == enterArg {
		return enter(args[2])
	}
	if len(args) != 3 || args[1] != superviseArg {
		fmt.Fprintf(os.Stderr, "%s is not meant to be called by people\n", args[1])
		return 2
	}
	out := os.NewFile(reportFd, "report")
	unix.CloseOnExec(reportFd)
	s := &supervisor{dir: args[2]}
	err := s.start()
	r := report{Run: &s.run}
	if err != nil {
		r = report{Error: err.Error()}
	}
	_ = json.NewEncoder(out).Encode(r) // the daemon may have died: it reads run.json later
	out.Close()
	if err != nil {
		s.giveUp()
		return 1
	}
	return s.supervise()
}

// supervisor owns one start of a program.
type supervisor struct {
	dir     string
	lock    *os.File
	told    *os.File // the order; once the program runs, how to launch another beside it
	spec    spec
	how     launchSpec
	run     runRecord
	log     *logs.Writer
	fence   *deadline // nil if there is none
	pid     int       // of the program or of its warden; a zombie until finish has reaped it
	readers []*os.File
	copies  sync.WaitGroup
	orders  chan os.Signal
}

// start gets the program running, or says why not.
func (s *supervisor) start() error {
	s.orders = make(chan os.Signal, 16)
	signal.Notify(s.orders, unix.SIGTERM)
	// Taken and dropped, not ignored: the program would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE)
	s.lock = os.NewFile(lockFd, "lock") // held from before the fork until the process ends
	unix.CloseOnExec(lockFd)
	s.told = os.NewFile(orderFd, "order")
	unix.CloseOnExec(orderFd)
	var err error
	if s.run.Supervisor, err = identify(os.Getpid()); err != nil {
		return err
	}
	// Whoever finds the lock held, and nothing else, knows by whom.
	if err := writeLock(s.lock, s.run.Supervisor); err != nil {
		return err
	}
	var told order
	if err := readMemory(s.told, &told); err != nil {
		return err
	}
	s.spec, s.how = told.Spec, told.Launch
	if f := s.spec.Task.Fence; f != nil {
		if boottime.Now() >= f.Until-driver.FenceMargin {
			return fmt.Errorf("%w before it was started", errClosed)
		}
		if s.fence, err = newDeadline(f.Until); err != nil {
			return err
		}
		s.run.DeadlineFd = int(s.fence.file.Fd())
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of orphans: %w", err)
	}
	if s.log, err = logs.Open(filepath.Join(s.dir, logsDir), s.spec.Task.LogMax); err != nil {
		return err
	}
	if s.spec.Note != "" {
		s.log.Note("%s", s.spec.Note)
	}
	if err := s.spec.Groups.create(s.spec.Task.CPU, s.spec.Task.Memory, s.spec.processes()); err != nil {
		s.log.Note("not all limits are enforced: %v", err)
	}
	if err := s.fork(); err != nil {
		return err
	}
	// What the program was given it has; nobody else needs it.
	s.how.View, s.how.Parent = nil, 0
	if err := writeMemory(s.told, s.how); err != nil {
		return err
	}
	s.run.Starts, s.run.StartedAt, s.run.LaunchFd = s.spec.Starts, time.Now(), orderFd
	if s.run.Program, err = identify(s.pid); err != nil {
		return err
	}
	return writeJSON(filepath.Join(s.dir, runFile), s.run)
}

func (s *spec) processes() int {
	if s.Processes > 0 {
		return s.Processes
	}
	return processesMaxDefault
}

// fork starts the launcher and waits until it has become the program.
func (s *supervisor) fork() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	var files []int
	defer func() {
		for _, fd := range files {
			unix.Close(fd)
		}
	}()
	pipe := func() (r, w int, err error) {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return 0, 0, fmt.Errorf("make a pipe: %w", err)
		}
		return fds[0], fds[1], nil
	}
	outR, outW, err := pipe()
	if err != nil {
		return err
	}
	errR, errW, err := pipe()
	if err != nil {
		return err
	}
	reportR, reportW, err := pipe()
	if err != nil {
		return err
	}
	files = []int{outW, errW, reportW}
	if who := s.how.User; who != nil { // so that it may open /dev/stdout
		for _, fd := range []int{outW, errW} {
			_ = unix.Fchown(fd, who.UID, who.GID) // else only that does not work
		}
	}
	s.how.Procs = s.spec.Groups.procsFiles()
	if s.fence == nil { // the warden sees to it that a fenced one ends
		s.how.Parent = os.Getpid()
	}
	if err := writeMemory(s.told, s.how); err != nil {
		return err
	}
	for fd, name := range map[int]string{outR: "stdout", errR: "stderr"} {
		s.copy(fd, name)
	}
	attr := syscall.ProcAttr{
		Dir: "/", Env: []string{},
		Files: []uintptr{null.Fd(), uintptr(outW), uintptr(errW), s.told.Fd(), uintptr(reportW)},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL},
	}
	argv := []string{"hansa", launchArg}
	if s.fence != nil {
		argv[1] = wardenArg
		attr.Env, attr.Files = os.Environ(), append(attr.Files, s.fence.file.Fd()) // as wardenDeadlineFd says
	}
	s.pid, err = s.spec.Isolation.fork("/proc/self/exe", argv, attr, s.fence != nil)
	out := os.NewFile(uintptr(reportR), "report")
	defer out.Close()
	if err != nil {
		s.pid = 0
		return fmt.Errorf("fork: %w", err)
	}
	for _, fd := range files {
		unix.Close(fd)
	}
	files = nil
	return launched(out)
}

// launched waits until a launcher has become the program, or says why not.
func launched(report io.Reader) error {
	why, err := io.ReadAll(io.LimitReader(report, 4096))
	if len(why) > 0 {
		return errors.New(string(why))
	}
	return err
}

// copy reads one stream of the program into the log until its end.
func (s *supervisor) copy(fd int, name string) {
	_ = unix.SetNonblock(fd, true) // lets a deadline end the reading; without it we wait
	r := os.NewFile(uintptr(fd), name)
	s.readers = append(s.readers, r)
	stream := s.log.Stream(name)
	s.copies.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			_, _ = stream.Write(buf[:n]) // never fails
			if err != nil {
				_ = stream.Close()
				return
			}
		}
	})
}

// giveUp undoes a start that failed.
func (s *supervisor) giveUp() {
	if s.pid > 0 {
		s.killAll()
		s.reap()
	}
	_ = s.spec.Groups.remove(time.Second) // the daemon tries again
}

// supervise waits for the end of the program, which orders may hasten.
func (s *supervisor) supervise() int {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			// WNOWAIT leaves the zombie, so that its id, which is that of the
			// group too, can't be used again while we still signal it.
			err := unix.Waitid(unix.P_PID, s.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	orphans := make(chan os.Signal, 1)
	signal.Notify(orphans, unix.SIGCHLD)
	grace := time.NewTimer(0)
	grace.Stop()
	var deadline time.Time // of the kill
	stopped, killed := false, false
	due := s.due()
	for {
		select {
		case <-due:
			due = nil
			s.killNow()
		case <-s.orders:
			order := s.order()
			if !stopped && order.Grace >= 0 {
				_ = unix.Kill(-s.pid, signalNumber(order.Signal)) // gone is what is wanted
			}
			// Orders are repeated: a later one only ever hastens the end.
			if at := time.Now().Add(max(0, order.Grace)); !stopped || at.Before(deadline) {
				deadline = at
				grace.Reset(time.Until(at))
			}
			stopped = true
		case <-grace.C:
			killed = true
			s.killNow()
		case <-orphans:
			s.reapOrphans()
		case <-ended:
			return s.finish(stopped, killed)
		}
	}
}

// due is closed when the task's deadline has come.
func (s *supervisor) due() <-chan struct{} {
	if s.fence == nil {
		return nil
	}
	due := make(chan struct{})
	go func() {
		if s.fence.expire(context.Background(), driver.FenceMargin) == nil {
			close(due)
		}
	}()
	return due
}

// killNow begins to end the program; finish sees it through.
func (s *supervisor) killNow() {
	_ = unix.Kill(-s.pid, unix.SIGKILL) // gone is what is wanted
	s.spec.Groups.kill()
}

// order reads how to stop; without one, as the task says.
func (s *supervisor) order() stopOrder {
	o := stopOrder{Signal: s.spec.Task.StopSignal, Grace: s.spec.Task.Grace}
	if ok, err := readJSON(filepath.Join(s.dir, stopFile), &o); err != nil || !ok {
		o = stopOrder{Signal: s.spec.Task.StopSignal, Grace: s.spec.Task.Grace}
	}
	return o
}

// finish ends what the program left behind, and writes down how it ended.
func (s *supervisor) finish(stopped, killed bool) int {
	until, fenced := time.Duration(0), false
	if s.fence != nil {
		until, fenced = s.fence.until()
	}
	left := s.killAll()
	status := s.reap()
	exited, late := time.Now(), overrun(until)
	drained := make(chan struct{})
	go func() { s.copies.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(drainPatience): // something that could not be killed has the pipe
		for _, r := range s.readers {
			_ = r.SetReadDeadline(aLongTimeAgo)
		}
		<-drained
	}
	e := exitRecord{Starts: s.spec.Starts, ExitedAt: exited}
	switch {
	case status.Signaled():
		e.ExitCode = 128 + int(status.Signal())
	default:
		e.ExitCode = status.ExitStatus()
	}
	if e.ExitCode != 0 {
		e.Reason = driver.ExitReason(e.ExitCode)
	}
	switch {
	case fenced:
		e.Fenced, e.Overrun, e.Reason = true, late, driver.FencedReason(late)
	case killed:
		e.Reason = "killed: it did not end within its grace"
		if s.order().Grace < 0 {
			e.Reason = "killed"
		}
	case !stopped && e.ExitCode == 128+int(unix.SIGKILL) && s.spec.Groups.oomKills() > 0:
		e.OOM = true
		e.Reason = fmt.Sprintf("killed: out of memory (limit %d MiB)", s.spec.Task.Memory>>20)
	}
	if left > 0 {
		e.Reason += fmt.Sprintf("; %d processes of it can't be killed", left)
		s.log.Note("%d processes can't be killed", left)
	}
	if e.OOM || e.Fenced {
		s.log.Note("%s", e.Reason)
	}
	_ = s.log.Close() // what was written is written
	code := 0
	if err := writeJSON(filepath.Join(s.dir, exitFile), e); err != nil {
		// On a full disk the exit code still reaches the daemon by the code of
		// the supervisor, if it is the one that started it.
		code = e.ExitCode
	}
	_ = s.spec.Groups.remove(time.Second) // the daemon tries again
	return code
}
