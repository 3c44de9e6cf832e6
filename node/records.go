package node

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/hansa-mesh/hansa/placement"
)

// recordContext separates the signatures of records from all others that a
// peer's key makes.
const recordContext = "hansa record 1"

// signRecord signs a record of the core, which need not be checked when it is read
// here: it is read often, from the table, by the core, and by both with every message.
func (n *Node) signRecord(body []byte) []byte {
	sig := n.id.SignFor(recordContext, body)
	n.verified.add(signedSum(n.id.Public(), recordContext, body, sig))
	return sig
}

// verifyRecord says whether a record was signed by a peer that was let in. A
// revoked peer's records stand: it can bring no new ones, since nobody takes a
// connection from it.
func (n *Node) verifyRecord(s placement.Signed) error { return n.verifySigned(recordContext, s) }

// verifySigned is verifyRecord for what was signed within another context.
func (n *Node) verifySigned(context string, s placement.Signed) error {
	key, ok := n.trust.KeyOf(string(s.By))
	if !ok {
		return fmt.Errorf("record of %s: no such peer was let in", s.By)
	}
	if !n.verified.check(key, context, s.Body, s.Sig) {
		return fmt.Errorf("record of %s: the signature is wrong", s.By)
	}
	return nil
}

// checkRecord verifies a record of the core's tables that comes from
// elsewhere.
func (n *Node) checkRecord(_ string, value []byte) error {
	var s placement.Signed
	if err := cbor.Unmarshal(value, &s); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return n.verifyRecord(s)
}
