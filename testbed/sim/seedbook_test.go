package sim

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// seedBook is a file of tests and the seed that each needs, one a line.
type seedBook struct {
	file string

	once  sync.Once
	mu    sync.Mutex        // guards what follows
	seeds map[string]uint64 // by the name of the test
}

func (b *seedBook) read() {
	b.seeds = map[string]uint64{}
	text, _ := os.ReadFile(b.file) // without it, all are looked for
	for line := range strings.Lines(string(text)) {
		var name string
		var seed uint64
		if _, err := fmt.Sscan(line, &name, &seed); err == nil {
			b.seeds[name] = seed
		}
	}
}

// of is the seed of a test, 0 if there is none.
func (b *seedBook) of(test string) uint64 {
	b.once.Do(b.read)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seeds[test]
}

func (b *seedBook) note(test string, seed uint64) {
	b.once.Do(b.read)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seeds[test] = seed
}

// write writes what was noted, and of other tests what was there.
func (b *seedBook) write() error {
	b.once.Do(b.read)
	b.mu.Lock()
	defer b.mu.Unlock()
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(b.seeds)) {
		fmt.Fprintf(&text, "%s %d\n", name, b.seeds[name])
	}
	return os.WriteFile(b.file, []byte(text.String()), 0o600)
}
