package gossip

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// memberlist tells of deaths, not of suspicions, so the packets that go by are
// looked at for them. What is displayed and Settled depend on this, and that a
// word that nobody could refute is not taken.

// A peer's incarnation begins at nought and grows by one with each refutation, above what
// it is accused of; memberlist's has 32 bits, and one accused of the highest could never
// refute. So an accusation may name incarnationMax, and above that no more than
// accusedAhead over what is known of the accused: true ones of a peer that was pushed up
// there are taken, and no lie pushes it far. A life sign may name any: a peer must be
// able to say more than was ever said of it, and to hear it.
const (
	incarnationMax = 1 << 30
	accusedAhead   = 16
)

// numberMax is the highest that a message of a kind may name of a node. The caller holds mu.
func (g *Gossip) numberMax(node string, kind byte) uint64 {
	if kind != suspectMsg && kind != deadMsg || node == g.cfg.Self {
		return math.MaxUint32
	}
	most := uint64(incarnationMax)
	if p, ok := g.peers[node]; ok {
		most = max(most, p.incarnation+accusedAhead)
	}
	return min(most, math.MaxUint32-1)
}

// memberlist's message types that matter here; part of its protocol.
const (
	pingMsg         = 0
	indirectPingMsg = 1
	ackMsg          = 2
	suspectMsg      = 3
	aliveMsg        = 4
	deadMsg         = 5
	compoundMsg     = 7
	compressMsg     = 9
	hasCRCMsg       = 12
)

// tapPacket calls fn for every suspicion, death and life sign in a packet of
// memberlist's, with its incarnation and the type of the message, and for every answer
// to a ping, with its number. It is false for a packet that is damaged, for one in wrappings
// that no peer uses: compression, which a little of may become much, and
// messages within messages within messages; and for a message that memberlist may read
// otherwise than this does, for what it says would be believed unseen.
func tapPacket(b []byte, fn func(node string, incarnation uint64, kind byte)) bool {
	if len(b) >= 5 && b[0] == hasCRCMsg {
		if crc32.ChecksumIEEE(b[5:]) != binary.BigEndian.Uint32(b[1:]) {
			return false
		}
		b = b[5:]
	}
	if len(b) < 2 || b[0] != compoundMsg {
		return tapMessage(b, fn)
	}
	parts := int(b[1])
	lengths := b[2:]
	if len(lengths) < 2*parts {
		return false
	}
	rest := lengths[2*parts:]
	for i := range parts {
		n := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if n > len(rest) || !tapMessage(rest[:n], fn) {
			return false
		}
		rest = rest[n:]
	}
	return true
}

func tapMessage(b []byte, fn func(string, uint64, byte)) bool {
	if len(b) < 2 {
		return true
	}
	switch b[0] {
	case suspectMsg, aliveMsg, deadMsg:
		node, inc, ok := nodeAnd("Incarnation", b[1:])
		if !ok {
			return false
		}
		fn(node, inc, b[0])
	case ackMsg:
		if _, seq, ok := nodeAnd("SeqNo", b[1:]); ok { // memberlist's concern otherwise
			fn("", seq, b[0])
		}
	case compoundMsg, compressMsg, hasCRCMsg:
		return false
	}
	return true
}

// nodeAnd reads a number, by its name, and the node that it is of, out of a MessagePack
// map as memberlist writes it, each of which is there once; an answer has no node.
func nodeAnd(name string, b []byte) (node string, number uint64, ok bool) {
	if len(b) == 0 || b[0]&0xf0 != 0x80 {
		return "", 0, false
	}
	pairs := int(b[0] & 0x0f)
	b = b[1:]
	var haveNode, haveNumber bool
	for range pairs {
		key, rest, good := packedString(b)
		if !good {
			return "", 0, false
		}
		b = rest
		switch string(key) {
		case "Node":
			var v []byte
			v, b, good = packedString(b)
			node, good, haveNode = string(v), good && !haveNode, true
		case name:
			number, b, good = packedUint(b)
			good, haveNumber = good && !haveNumber, true
		default:
			b, good = packedSkip(b)
		}
		if !good {
			return "", 0, false
		}
	}
	return node, number, haveNumber && (haveNode || name == "SeqNo")
}

// packedString reads a string or binary of up to 64 KiB.
func packedString(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	n, head := 0, 0
	switch c := b[0]; {
	case c&0xe0 == 0xa0:
		n, head = int(c&0x1f), 1
	case (c == 0xd9 || c == 0xc4) && len(b) >= 2:
		n, head = int(b[1]), 2
	case (c == 0xda || c == 0xc5) && len(b) >= 3:
		n, head = int(binary.BigEndian.Uint16(b[1:])), 3
	default:
		return nil, nil, false
	}
	if len(b) < head+n {
		return nil, nil, false
	}
	return b[head : head+n], b[head+n:], true
}

func packedUint(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	if b[0] < 0x80 {
		return uint64(b[0]), b[1:], true
	}
	size := numberBytes(b[0])
	if size == 0 || len(b) < 1+size {
		return 0, nil, false
	}
	for _, c := range b[1 : 1+size] {
		v = v<<8 | uint64(c)
	}
	return v, b[1+size:], true
}

// numberBytes is how many bytes follow the head of a number.
func numberBytes(head byte) int {
	switch head {
	case 0xcc, 0xd0:
		return 1
	case 0xcd, 0xd1:
		return 2
	case 0xce, 0xd2:
		return 4
	case 0xcf, 0xd3:
		return 8
	}
	return 0
}

func packedSkip(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, false
	}
	if b[0] == 0xc0 {
		return b[1:], true
	}
	if _, rest, ok = packedString(b); ok {
		return rest, true
	}
	_, rest, ok = packedUint(b)
	return rest, ok
}
