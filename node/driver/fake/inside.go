package fake

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// file is one of a task's own.
type file struct {
	mode    uint32
	content []byte
}

func filesOf(t driver.Task) map[string]file {
	files := map[string]file{}
	for _, f := range t.Files {
		files[f.Path] = file{f.Mode, append([]byte(nil), f.Content...)}
	}
	return files
}

// onHost is where a path within one of the task's volumes is on the host.
func (r *run) onHost(path string) (string, bool) {
	for _, v := range r.task.Volumes {
		if rest, ok := strings.CutPrefix(filepath.Clean(path), filepath.Clean(v.Path)+"/"); ok {
			return filepath.Join(v.Source, rest), true
		}
	}
	return "", false
}

// ReadFile reads one of the task's files, or of its volumes'.
func (p *Proc) ReadFile(path string) (mode uint32, content []byte, err error) {
	if host, ok := p.run.onHost(path); ok {
		content, err = os.ReadFile(host)
		return 0o644, content, err
	}
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	f, ok := p.run.files[path]
	if !ok {
		return 0, nil, fmt.Errorf("read %s: %w", path, os.ErrNotExist)
	}
	return f.mode, f.content, nil
}

// WriteFile replaces a file's content, until the task starts anew if it is not
// in a volume.
func (p *Proc) WriteFile(path string, content []byte) error {
	if host, ok := p.run.onHost(path); ok {
		return os.WriteFile(host, content, 0o644)
	}
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	f, ok := p.run.files[path]
	if !ok {
		f.mode = 0o644
	}
	p.run.files[path] = file{f.mode, append([]byte(nil), content...)}
	return nil
}

// Use adds CPU time to what the task used, and memory to what it has. It is
// false if that is over the task's limit.
func (p *Proc) Use(cpu time.Duration, memory int64) bool {
	p.run.mu.Lock()
	defer p.run.mu.Unlock()
	if limit := p.Task.Memory; limit > 0 && p.run.used.Memory+memory > limit {
		return false
	}
	p.run.used.CPU += cpu
	p.run.used.Memory += memory
	return true
}

// outOfMemory ends the task as a kernel would.
func (r *run) outOfMemory() {
	r.set(func(s *driver.Status) {
		s.State, s.ExitCode, s.ExitedAt, s.OOM = driver.StateExited, 137, time.Now(), true
		s.Reason = fmt.Sprintf("killed: out of memory (limit %d MiB)", r.task.Memory>>20)
	})
	r.kill()
}
