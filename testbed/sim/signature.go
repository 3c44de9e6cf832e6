package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/hansa-mesh/hansa/placement"
)

// signature stands for one: it shows when somebody changed a record of somebody
// else, as whoever encodes anew what it does not know all of does. Nobody lies
// here.
func signature(by placement.PeerID, body []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.ChecksumIEEE([]byte(by)), crc32.IEEETable, body))
}

var errSignature = errors.New("not what was signed")

func verified(s placement.Signed) error {
	if !bytes.Equal(s.Sig, signature(s.By, s.Body)) {
		return errSignature
	}
	return nil
}
