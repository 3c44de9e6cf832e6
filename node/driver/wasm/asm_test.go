package wasm_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// A tiny assembler for hostile modules: imports fd_write (0) and proc_exit
// (1), exports memory and _start (2), with text at address 16 and an iovec of
// it at 0.

type asm struct {
	text    string
	code    []byte
	memMin  uint32
	imports [][2]string // beside the two
	start   string      // name of the export; "_start"
	takes   byte        // type of it: 0 nothing, 2 a number
	tables  []byte      // of the section, if there is one
}

func leb(n uint32) []byte { return binary.AppendUvarint(nil, uint64(n)) }

func vec(items ...[]byte) []byte {
	out := leb(uint32(len(items)))
	for _, i := range items {
		out = append(out, i...)
	}
	return out
}

func str(s string) []byte { return append(leb(uint32(len(s))), s...) }

func section(id byte, body []byte) []byte {
	return append(append([]byte{id}, leb(uint32(len(body)))...), body...)
}

func cat(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func (a asm) bytes() []byte {
	if a.start == "" {
		a.start = "_start"
	}
	if a.memMin == 0 {
		a.memMin = 2
	}
	const i32 = 0x7f
	imports := [][]byte{
		cat(str("wasi_snapshot_preview1"), str("fd_write"), []byte{0, 1}),
		cat(str("wasi_snapshot_preview1"), str("proc_exit"), []byte{0, 2}),
	}
	for _, i := range a.imports {
		imports = append(imports, cat(str(i[0]), str(i[1]), []byte{0, 0}))
	}
	start := leb(uint32(len(imports)))
	iovec := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 16), uint32(len(a.text)))
	data := append(append(iovec, make([]byte, 8)...), a.text...)
	body := cat([]byte{0}, a.code, []byte{0x0b})
	return cat(
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, vec(
			[]byte{0x60, 0, 0},
			[]byte{0x60, 4, i32, i32, i32, i32, 1, i32},
			[]byte{0x60, 1, i32, 0},
		)),
		section(2, vec(imports...)),
		section(3, vec([]byte{a.takes})),
		a.tables,
		section(5, vec(cat([]byte{0}, leb(a.memMin)))),
		section(7, vec(cat(str("memory"), []byte{2, 0}), cat(str(a.start), []byte{0}, start))),
		section(10, vec(cat(leb(uint32(len(body))), body))),
		section(11, vec(cat([]byte{0, 0x41, 0, 0x0b}, leb(uint32(len(data))), data))),
	)
}

func (a asm) file(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.wasm")
	if err := os.WriteFile(path, a.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Pieces of code.
var (
	opPrint   = []byte{0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 0, 0x1a} // fd_write(1, iovec, 1, 8)
	opTrap    = []byte{0x00}
	opForever = []byte{0x03, 0x40, 0x0c, 0, 0x0b}
)

func opLoop(body []byte) []byte { return cat([]byte{0x03, 0x40}, body, []byte{0x0c, 0, 0x0b}) }

// opGrow grows memory page by page until it is refused.
var opGrow = []byte{0x03, 0x40, 0x41, 1, 0x40, 0, 0x41, 0x7f, 0x47, 0x0d, 0, 0x0b}

// opGrowTable asks for n entries more, and traps if it gets them.
func opGrowTable(n uint32) []byte {
	return cat([]byte{0xd0, 0x70, 0x41}, leb(n), []byte{0xfc, 0x0f, 0, 0x41, 0x7f, 0x47, 0x04, 0x40, 0x00, 0x0b})
}

// tableOf is a section with one table of functions.
func tableOf(entries uint32) []byte {
	return section(4, vec(cat([]byte{0x70, 0}, leb(entries))))
}

func opExit(code byte) []byte { return []byte{0x41, code, 0x10, 1} }
