package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
)

// Limits of a module's tables. wazero has none: without them a guest could
// make the daemon allocate 32 GiB with one table.grow.
const (
	tablesMax       = 16
	tableEntriesMax = 1 << 20 // of all tables when an instance begins; 8 bytes each
	tableGrowthMax  = 1 << 16 // entries to which a table may grow, unless it begins with more
)

// tables is a module's table section.
type tables struct {
	begin, end int64 // of the section in the module; 0 for none
	all        []table
}

// table is one of them.
type table struct {
	kind     byte // of its entries
	min, max uint32
}

// readTables reads the section; called at its content.
func (c *checker) readTables() error {
	if c.tables.end != 0 {
		return invalid("the module is malformed: it has two sections of tables")
	}
	n, err := c.uint32()
	if err != nil {
		return err
	}
	if n > tablesMax {
		return invalid("the module has %d tables, over %d", n, tablesMax)
	}
	entries := uint64(0)
	for range n {
		t := table{}
		if t.kind, err = c.byte(); err != nil {
			return err
		}
		if t.kind != 0x70 && t.kind != 0x6f { // functions, and what the host gives
			return invalid("the module has a table of a kind that is not served (0x%x)", t.kind)
		}
		if t.min, t.max, err = c.limits(); err != nil {
			return err
		}
		if entries += uint64(t.min); entries > tableEntriesMax {
			return invalid("the module's tables begin with over %d entries", tableEntriesMax)
		}
		c.tables.all = append(c.tables.all, t)
	}
	return nil
}

// readModule returns a module's bytes, checked, with a maximum for every
// table.
func readModule(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if info.Size() > ModuleBytesMax {
		return nil, invalid("the module is over %d MiB", ModuleBytesMax>>20)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	c := newChecker(bytes.NewReader(b))
	if err := c.check(); err != nil {
		return nil, err
	}
	return c.tables.bound(b), nil
}

// bound returns the module with the maxima of its tables lowered.
func (t tables) bound(module []byte) []byte {
	if t.end == 0 {
		return module
	}
	body := binary.AppendUvarint(nil, uint64(len(t.all)))
	for _, t := range t.all {
		body = append(body, t.kind, 1) // 1: with a maximum
		body = binary.AppendUvarint(body, uint64(t.min))
		body = binary.AppendUvarint(body, uint64(min(t.max, max(t.min, tableGrowthMax))))
	}
	out := make([]byte, 0, len(module)+len(body))
	out = append(out, module[:t.begin]...)
	out = binary.AppendUvarint(append(out, sectionTables), uint64(len(body)))
	return append(append(out, body...), module[t.end:]...)
}
