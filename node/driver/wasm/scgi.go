package wasm

import (
	"bytes"
	"strconv"
)

// scgi is the head of a request to an instance that stays in memory, whose
// environment can't change: the variables as SCGI has them, a netstring of names
// and values that each end in a zero byte, CONTENT_LENGTH first. Unlike in SCGI
// that is empty where the client did not say the length of a large body; the
// body, of length bytes or -1, ends with standard input in any case.
func scgi(vars []variable, length int64) []byte {
	size := ""
	if length >= 0 {
		size = strconv.FormatInt(length, 10)
	}
	var pairs bytes.Buffer
	add := func(name, value string) {
		pairs.WriteString(name + "\x00" + value + "\x00")
	}
	add(lengthName, size)
	add("SCGI", "1")
	for _, v := range vars {
		if v.name != lengthName {
			add(v.name, v.value)
		}
	}
	head := append(strconv.AppendInt(nil, int64(pairs.Len()), 10), ':')
	return append(append(head, pairs.Bytes()...), ',')
}

const lengthName = "CONTENT_LENGTH"
