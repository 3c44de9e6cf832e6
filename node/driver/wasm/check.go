package wasm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/node/driver"
)

// ModuleBytesMax is the size of the largest module that is taken.
const ModuleBytesMax = 64 << 20

const (
	namesMax   = 100_000 // imports or exports of one module
	nameMax    = 64 << 10
	unknownMax = 5 // unknown imports that an error names
)

// sectionMax bounds, in bytes, the sections of which every instance has a copy
// outside of its linear memory. Real modules have a hundredth of it.
var sectionMax = map[byte]uint32{
	sectionTables:   1 << 10,
	sectionGlobals:  256 << 10,
	sectionElements: 2 << 20,
}

// Sections that are looked into or bounded.
const (
	sectionImports  = 2
	sectionTables   = 4
	sectionGlobals  = 6
	sectionExports  = 7
	sectionElements = 9
)

// wasi is the module of imports that is served; functions are those of WASI
// preview 1, all of which wazero exports.
const wasi = "wasi_snapshot_preview1"

var wasiFunctions = strings.Fields(`args_get args_sizes_get clock_res_get clock_time_get environ_get
	environ_sizes_get fd_advise fd_allocate fd_close fd_datasync fd_fdstat_get fd_fdstat_set_flags
	fd_fdstat_set_rights fd_filestat_get fd_filestat_set_size fd_filestat_set_times fd_pread
	fd_prestat_dir_name fd_prestat_get fd_pwrite fd_read fd_readdir fd_renumber fd_seek fd_sync fd_tell
	fd_write path_create_directory path_filestat_get path_filestat_set_times path_link path_open
	path_readlink path_remove_directory path_rename path_symlink path_unlink_file poll_oneoff proc_exit
	proc_raise random_get sched_yield sock_accept sock_recv sock_send sock_shutdown`)

const howToBuild = "build a WASI preview 1 command (Go: GOOS=wasip1 GOARCH=wasm; Rust: --target wasm32-wasip1; C: clang --target=wasm32-wasi)"

const howToBuildHandler = "build a WASI preview 1 reactor (Go: GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared, with //go:wasmexport; Rust: a cdylib for wasm32-wasip1; C: clang --target=wasm32-wasi -mexec-model=reactor)"

// CheckModule reads a module and says why it can't be run as a function: it
// is no WebAssembly, or truncated, a component, has no _start, or imports what
// is not served. With a handler, it is to be a module without _start that exports
// this function. It does not validate code: that is the compiler's. The error
// wraps driver.ErrInvalid unless reading itself failed.
func CheckModule(r io.Reader, handler string) error {
	c := newChecker(r)
	c.handler = handler
	if err := c.check(); err != nil {
		return err
	}
	switch {
	case handler == "" && !c.started:
		return invalid("the module exports no function _start: it is a library (a reactor), not a command; name its handler, or %s", howToBuild)
	case handler != "" && c.started:
		return isCommand(handler)
	case handler != "" && !c.handles:
		return invalid("the module exports no function %.60q, which is to be its handler; %s", handler, howToBuildHandler)
	}
	return nil
}

func isCommand(handler string) error {
	return invalid("the module exports _start, so it is a command, which ends with its first answer, and can't have a handler (%.60q); %s", handler, howToBuildHandler)
}

func newChecker(r io.Reader) *checker {
	return &checker{r: bufio.NewReaderSize(r, 64<<10), left: ModuleBytesMax}
}

func (c *checker) check() error {
	err := c.module()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the module is truncated after %d bytes", driver.ErrInvalid, c.at())
	}
	return err
}

type checker struct {
	r      *bufio.Reader
	left   int64 // bytes that may still be read
	tables tables

	handler          string
	started, handles bool // whether _start and the handler are exported
}

// at is how many bytes were read.
func (c *checker) at() int64 { return ModuleBytesMax - c.left }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", driver.ErrInvalid, fmt.Sprintf(format, args...))
}

func (c *checker) module() error {
	var head [8]byte
	if n, err := io.ReadFull(c.r, head[:]); err != nil || string(head[:4]) != "\x00asm" {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("check module: %w", err)
		}
		if n >= 4 && string(head[:4]) == "\x00asm" {
			return err // truncated
		}
		return invalid("this is not a WebAssembly module; %s", howToBuild)
	}
	c.left -= 8
	switch version := binary.LittleEndian.Uint32(head[4:]); {
	case version == 0x1000d || head[6] == 1:
		return invalid("this is a WebAssembly component (WASI preview 2 or later), which is not supported; %s", howToBuild)
	case version != 1:
		return invalid("WebAssembly version %d is not supported", version)
	}
	var unknown []string
	for {
		begin := c.at()
		id, err := c.byte()
		if errors.Is(err, io.EOF) {
			break // the only place where a module may end
		}
		if err != nil {
			return err
		}
		size, err := c.uint32()
		if err != nil {
			return err
		}
		if most, bounded := sectionMax[id]; bounded && size > most {
			return invalid("the module's section %d has %d bytes, over %d", id, size, most)
		}
		switch id {
		case sectionImports:
			err = c.section(size, func() (err error) { unknown, err = c.imports(); return err })
		case sectionTables:
			err = c.section(size, c.readTables)
			c.tables.begin, c.tables.end = begin, c.at()
		case sectionExports:
			err = c.section(size, c.exports)
		default:
			err = c.discard(int64(size))
		}
		if err != nil {
			return err
		}
	}
	if len(unknown) > 0 {
		more := ""
		if len(unknown) > unknownMax {
			more = fmt.Sprintf(" and %d more", len(unknown)-unknownMax)
			unknown = unknown[:unknownMax]
		}
		return invalid("the module imports what no function is given: %s%s; %s", strings.Join(unknown, ", "), more, howToBuild)
	}
	return nil
}

// section runs read and makes sure that it took exactly size bytes.
func (c *checker) section(size uint32, read func() error) error {
	end := c.left - int64(size)
	if err := read(); err != nil {
		return err
	}
	if c.left != end {
		return invalid("the module is malformed: a section of %d bytes has another length", size)
	}
	return nil
}

// imports returns the imports that are not served.
func (c *checker) imports() ([]string, error) {
	n, err := c.count()
	if err != nil {
		return nil, err
	}
	var unknown []string
	for range n {
		module, err := c.name()
		if err != nil {
			return nil, err
		}
		name, err := c.name()
		if err != nil {
			return nil, err
		}
		kind, err := c.byte()
		if err != nil {
			return nil, err
		}
		if kind != 0 || module != wasi || !slices.Contains(wasiFunctions, name) {
			if len(unknown) <= unknownMax { // names are the guest's: keep few
				unknown = append(unknown, fmt.Sprintf("%.60q.%.60q", module, name))
			} else {
				unknown = append(unknown, "")
			}
		}
		if err := c.importType(kind); err != nil {
			return nil, err
		}
	}
	return unknown, nil
}

func (c *checker) importType(kind byte) error {
	switch kind {
	case 0: // function: a type index
		_, err := c.uint32()
		return err
	case 1: // table: an element type and limits
		if _, err := c.byte(); err != nil {
			return err
		}
		fallthrough
	case 2:
		_, _, err := c.limits()
		return err
	case 3: // global: a type and mutability
		return c.discard(2)
	}
	return invalid("the module is malformed: an import of kind %d", kind)
}

// limits reads a minimum and a maximum, which is the largest number if there
// is none.
func (c *checker) limits() (low, high uint32, err error) {
	flags, err := c.byte()
	if err != nil {
		return 0, 0, err
	}
	if flags > 3 {
		return 0, 0, invalid("the module has limits of a kind that is not served (0x%x)", flags)
	}
	if low, err = c.uint32(); err != nil || flags&1 == 0 {
		return low, math.MaxUint32, err
	}
	high, err = c.uint32()
	return low, high, err
}

// exports looks for _start and the handler.
func (c *checker) exports() error {
	n, err := c.count()
	if err != nil {
		return err
	}
	for range n {
		name, err := c.name()
		if err != nil {
			return err
		}
		kind, err := c.byte()
		if err != nil {
			return err
		}
		if _, err := c.uint32(); err != nil {
			return err
		}
		c.started = c.started || (name == "_start" && kind == 0)
		c.handles = c.handles || (name == c.handler && kind == 0)
	}
	return nil
}

func (c *checker) count() (uint32, error) {
	n, err := c.uint32()
	if err == nil && n > namesMax {
		err = invalid("the module is malformed: %d imports or exports", n)
	}
	return n, err
}

func (c *checker) name() (string, error) {
	n, err := c.uint32()
	if err != nil {
		return "", err
	}
	if n > nameMax {
		return "", invalid("the module is malformed: a name of %d bytes", n)
	}
	if err := c.take(int64(n)); err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(c.r, b)
	return string(b), err
}

func (c *checker) take(n int64) error {
	if c.left -= n; c.left < 0 {
		return invalid("the module is over %d MiB", ModuleBytesMax>>20)
	}
	return nil
}

func (c *checker) byte() (byte, error) {
	b, err := c.r.ReadByte()
	if err != nil {
		return 0, err
	}
	return b, c.take(1)
}

func (c *checker) discard(n int64) error {
	if err := c.take(n); err != nil {
		return err
	}
	got, err := io.CopyN(io.Discard, c.r, n)
	if errors.Is(err, io.EOF) {
		c.left += n - got
		err = io.ErrUnexpectedEOF
	}
	return err
}

// uint32 reads an LEB128 number.
func (c *checker) uint32() (uint32, error) {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b, err := c.byte()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v), nil
		}
	}
	return 0, invalid("the module is malformed: a number has over 32 bits")
}
