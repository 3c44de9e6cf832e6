package gossip

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// Streams carry whole exchanges of members, which memberlist believes as it does packets.
// They are looked at for incarnations that nobody could refute, too. One peer's exchange
// may name such a one in good faith, of another that was lied about: so it is not refused,
// only that word is made an old one, which memberlist leaves out.

const (
	pushPullMsg = 6
	stateAlive  = 0 // memberlist's
	// exchangeBytesMax is room for twice as many members as are known here at most.
	exchangeBytesMax = 4 << 20
	exchangeMax      = 2 * peersMax
)

// plainConn is a stream that ends where compression begins: no peer compresses,
// and memberlist would take 40 MiB out of a few bytes. And it is tame, see above.
type plainConn struct {
	net.Conn
	saw  func(node string, number uint64, kind byte) (most uint64)
	buf  *bufio.Reader
	head []byte // what was looked at and not read yet
	err  error
}

func (c *plainConn) Read(b []byte) (int, error) {
	if c.buf == nil {
		c.buf = bufio.NewReader(c.Conn)
		c.head, c.err = tameHead(c.buf, c.saw)
	}
	if c.err != nil {
		return 0, c.err
	}
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.buf.Read(b)
}

// tameHead reads the type of a stream's message, and of an exchange all the members.
func tameHead(r *bufio.Reader, saw func(string, uint64, byte) uint64) ([]byte, error) {
	t := tamer{r: r, saw: saw}
	kind, err := t.take(1)
	if err != nil {
		return nil, err
	}
	switch kind[0] {
	case compressMsg:
		return nil, fmt.Errorf("compressed: %w", errMalformed)
	case pushPullMsg:
		if err := t.members(); err != nil {
			return nil, err
		}
	}
	return t.seen, nil
}

// tamer reads MessagePack as memberlist writes it, and keeps what it read.
type tamer struct {
	r    *bufio.Reader
	saw  func(node string, number uint64, kind byte) (most uint64)
	seen []byte
}

func (t *tamer) take(n int) ([]byte, error) {
	if len(t.seen)+n > exchangeBytesMax {
		return nil, fmt.Errorf("an exchange of more than %d bytes: %w", exchangeBytesMax, errMalformed)
	}
	t.seen = append(t.seen, make([]byte, n)...)
	b := t.seen[len(t.seen)-n:]
	_, err := io.ReadFull(t.r, b)
	return b, err
}

func (t *tamer) members() error {
	var count uint64
	if err := t.fields(func(name string, _ []byte, v uint64, _ int) {
		if name == "Nodes" {
			count = v
		}
	}); err != nil {
		return err
	}
	if count > exchangeMax {
		return fmt.Errorf("an exchange of %d members: %w", count, errMalformed)
	}
	for range count {
		var node string
		var state, incarnation uint64
		var at []int
		if err := t.fields(func(name string, text []byte, v uint64, begin int) {
			switch name {
			case "Name":
				node = string(text)
			case "State":
				state = max(state, v)
			case "Incarnation":
				incarnation, at = max(incarnation, v), append(at, begin)
			}
		}); err != nil {
			return err
		}
		kind := byte(deadMsg)
		if state == stateAlive {
			kind = aliveMsg
		}
		if incarnation <= t.saw(node, incarnation, kind) {
			continue
		}
		for _, i := range at {
			clear(t.seen[i+1 : i+1+numberBytes(t.seen[i])])
		}
	}
	return nil
}

// fields reads a map of short names, and calls fn for each, with its text or number and
// where that begins.
func (t *tamer) fields(fn func(name string, text []byte, v uint64, begin int)) error {
	head, err := t.take(1)
	if err != nil {
		return err
	}
	if head[0]&0xf0 != 0x80 {
		return fmt.Errorf("no map: %w", errMalformed)
	}
	for range head[0] & 0x0f {
		name, _, err := t.scalar()
		if err != nil {
			return err
		}
		key, begin := string(name), len(t.seen)
		text, v, err := t.scalar()
		if err != nil {
			return err
		}
		fn(key, text, v, begin)
	}
	return nil
}

// scalar reads a text or bytes, a number, a truth value or nothing.
func (t *tamer) scalar() (text []byte, number uint64, err error) {
	head, err := t.take(1)
	if err != nil {
		return nil, 0, err
	}
	c, size := head[0], 0
	switch {
	case c < 0x80:
		return nil, uint64(c), nil
	case c == 0xc0 || c == 0xc2 || c == 0xc3:
		return nil, 0, nil
	case c&0xe0 == 0xa0:
		text, err = t.take(int(c & 0x1f))
		return text, 0, err
	case c == 0xd9 || c == 0xc4:
		size = 1
	case c == 0xda || c == 0xc5:
		size = 2
	case numberBytes(c) > 0:
		b, err := t.take(numberBytes(c))
		if err != nil {
			return nil, 0, err
		}
		v, _, _ := packedUint(t.seen[len(t.seen)-len(b)-1:])
		return nil, v, nil
	default:
		return nil, 0, fmt.Errorf("neither text nor number: %w", errMalformed)
	}
	b, err := t.take(size)
	if err != nil {
		return nil, 0, err
	}
	n := int(b[0])
	if size == 2 {
		n = int(binary.BigEndian.Uint16(b))
	}
	text, err = t.take(n)
	return text, 0, err
}
