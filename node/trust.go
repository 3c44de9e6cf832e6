package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

const (
	// tableTrust holds admissions, revocations and spent invitations.
	tableTrust = "trust"
	// seedsMax bounds the addresses that a newcomer is given, and those that
	// mesh.json keeps.
	seedsMax = 64
	// trustKeysMax bounds the records of trust.
	trustKeysMax = 1 << 17
)

// openTrust makes the trust set from this peer's own chain and the table, and
// keeps it at what the table says.
func (n *Node) openTrust(open func(table.Config) error) error {
	n.trust = trust.NewSet(n.member.Root)
	for _, raw := range n.member.Records {
		if _, err := n.trust.Add(raw); err != nil {
			return fmt.Errorf("%s: %w", meshFile, err)
		}
	}
	if err := open(table.Config{Name: tableTrust, Check: n.trust.Check, KeysMax: trustKeysMax, ValueMax: trust.RecordMax}); err != nil {
		return err
	}
	replica := n.tables[tableTrust]
	replica.Range("", func(key string, _ []byte) bool {
		n.trustChanged(replica, []string{key})
		return true
	})
	replica.OnChange(func(keys []string) { n.trustChanged(replica, keys) })
	return nil
}

func (n *Node) trustChanged(replica *table.Replica, keys []string) {
	for _, key := range keys {
		for _, r := range replica.Siblings(key) {
			if _, err := n.trust.Add(r.Value); err != nil {
				n.log.Warn("a record of trust does not count", "key", key, "err", err)
			}
		}
	}
	select {
	case n.trustMoved <- struct{}{}:
	default:
	}
}

// publishTrust makes records durable here and lets them spread.
func (n *Node) publishTrust(ctx context.Context, records ...[]byte) error {
	for _, raw := range records {
		key, err := trust.RecordKey(raw)
		if err != nil {
			return err
		}
		if err := n.putTrust(ctx, key, raw); err != nil {
			return storeError(err)
		}
		if _, err := n.trust.Add(raw); err != nil {
			return err
		}
	}
	return nil
}

// peerTrustChanged acts on what the set says anew of a peer.
func (n *Node) peerTrustChanged(id string) {
	n.vault.Poke()
	if err := n.trust.Admitted(id); errors.Is(err, trust.ErrRevoked) {
		if id == n.id.ID() {
			n.wasForgotten()
			return
		}
		n.log.Warn("a peer was shut out", "peer", id, "reason", err)
		n.gossip.Forget(id)
		n.loop.post(placement.MemberChanged{Peer: placement.PeerID(id), State: placement.MemberForgotten})
		return
	}
	n.log.Info("a peer was let in", "peer", id, "name", n.nameOf(id))
	if doubt := n.doubts()[id]; doubt != "" {
		n.log.Warn("there is doubt about a peer: forget the wrong one with 'hansa forget'", "peer", id, "doubt", doubt)
	}
}

// join decides about a newcomer.
func (n *Node) join(ctx context.Context, req transport.JoinRequest) (transport.JoinReply, error) {
	n.joining.Lock() // one after another, so that an invitation is good once
	defer n.joining.Unlock()
	reply, err := n.admit(ctx, req)
	if err != nil {
		n.log.Warn("a newcomer was refused", "from", req.From, "request", req, "err", err)
	}
	return reply, err
}

func (n *Node) admit(ctx context.Context, req transport.JoinRequest) (transport.JoinReply, error) {
	var none transport.JoinReply
	refuse := func(kind transport.Kind, err error) (transport.JoinReply, error) {
		return none, &transport.Error{Kind: kind, Msg: err.Error()}
	}
	token, err := trust.ParseToken(req.Token)
	if err != nil {
		return refuse(transport.KindInvalid, err)
	}
	id := identity.IDOf(req.Key)
	if a, ok := n.trust.Admission(id); ok && a.Token == token.ID && n.trust.Admitted(id) == nil {
		return n.welcome(id) // the answer was lost on the way
	}
	if err := n.trust.CheckToken(token, time.Now()); err != nil {
		return refuse(transport.KindForbidden, err)
	}
	if err := n.trust.Admitted(id); errors.Is(err, trust.ErrRevoked) {
		return refuse(transport.KindForbidden, fmt.Errorf("%w: a new key is needed: start with an empty data folder", err))
	}
	name, err := agreed("name", token.Name, req.Name)
	if err != nil {
		return refuse(transport.KindInvalid, err)
	}
	site, err := agreed("site", token.Site, req.Site)
	if err != nil {
		return refuse(transport.KindInvalid, err)
	}
	if err := n.nameFree(name, id, token.Replaces); err != nil {
		return refuse(transport.KindConflict, err)
	}
	admission, err := trust.Admit(n.id, trust.Admission{Key: req.Key, Name: name, Site: site, Token: token.ID, At: time.Now().Unix()})
	if err != nil {
		return none, err
	}
	spent, err := trust.Spend(n.id, trust.Spent{Token: token.ID, Peer: id})
	if err != nil {
		return none, err
	}
	if err := n.publishTrust(ctx, spent, admission); err != nil {
		return none, err
	}
	if token.Replaces != "" {
		if err := n.revoke(ctx, token.Replaces, false); err != nil {
			n.log.Warn("the replaced peer was not shut out", "peer", token.Replaces, "err", err)
		}
	}
	return n.welcome(id)
}

// agreed is what the invitation says, or the newcomer where that is open.
func agreed(field, invited, asked string) (string, error) {
	switch {
	case invited != "" && asked != "" && invited != asked:
		return "", fmt.Errorf("%s %q: the invitation is for %q: leave --%s out, or ask for another invitation", field, asked, invited, field)
	case invited == "" && asked == "":
		return "", fmt.Errorf("%s: the invitation leaves it open: say --%s", field, field)
	case invited != "":
		return invited, nil
	case !labelName.MatchString(asked):
		return "", fmt.Errorf("%s %q: %s", field, asked, labelRule)
	}
	return asked, nil
}

// nameFree refuses a name that another peer of the mesh has.
func (n *Node) nameFree(name, id, replaces string) error {
	for _, a := range n.trust.Peers() {
		if other := a.ID(); a.Name == name && other != id && other != replaces && n.trust.Admitted(other) == nil {
			return fmt.Errorf("name %q: peer %s has it: choose another, or say that this one takes its place ('hansa invite --name %s --replaces %s')",
				name, other, name, name)
		}
	}
	return nil
}

// welcome is what an admitted newcomer needs.
func (n *Node) welcome(id string) (transport.JoinReply, error) {
	chain := n.trust.Chain(id)
	if len(chain) == 0 {
		return transport.JoinReply{}, fmt.Errorf("peer %s has no admission", id)
	}
	reply := transport.JoinReply{Admission: chain[len(chain)-1]}
	ids := []string{id}
	for _, m := range n.members() {
		if m.Peer != id && m.State == gossip.StateAlive && len(reply.Seeds) < seedsMax {
			reply.Seeds = append(reply.Seeds, transport.Seed{ID: m.Peer, Addr: m.Addr})
			ids = append(ids, m.Peer)
		}
	}
	reply.Records = n.trust.Chains(ids) // the rest comes with the table
	return reply, nil
}

// memberFrom is the membership that a reply proves.
func memberFrom(id *identity.Identity, tokenText string, reply transport.JoinReply) (membership, error) {
	token, err := trust.ParseToken(tokenText)
	if err != nil {
		return membership{}, err
	}
	set := trust.NewSet(token.Root)
	for _, raw := range append([][]byte{reply.Admission}, reply.Records...) {
		if _, err := set.Add(raw); err != nil {
			return membership{}, fmt.Errorf("the peer answered with a wrong record: %w", err)
		}
	}
	if err := set.Admitted(id.ID()); err != nil {
		return membership{}, fmt.Errorf("the peer answered, but did not let this one in: %w", err)
	}
	own, _ := set.Admission(id.ID())
	m := membership{Mesh: set.Mesh(), Root: token.Root, Name: own.Name, Site: own.Site}
	for _, s := range reply.Seeds[:min(len(reply.Seeds), seedsMax)] {
		if identity.ValidID(s.ID) && s.ID != id.ID() {
			m.Known = append(m.Known, known{s.ID, s.Addr})
		}
	}
	m.Records = m.proofs(set, id.ID())
	return m, nil
}

// InviteOptions say whom an invitation is for.
type InviteOptions struct {
	Name     string        // of the newcomer
	Site     string        // "" leaves it to the newcomer
	Replaces string        // id of a peer whose place it takes
	TTL      time.Duration // default an hour
}

// Invite makes an invitation, which is good once, at any peer.
func (n *Node) Invite(_ context.Context, o InviteOptions) (string, error) {
	for field, v := range map[string]string{"name": o.Name, "site": o.Site} {
		if v != "" && !labelName.MatchString(v) {
			return "", fmt.Errorf("%s %q: %w: %s", field, v, placement.ErrInvalid, labelRule)
		}
	}
	if o.Name != "" {
		if err := n.nameFree(o.Name, "", o.Replaces); err != nil {
			return "", fmt.Errorf("%w: %w", placement.ErrConflict, err)
		}
	}
	return trust.NewToken(n.id, trust.TokenOptions{Mesh: n.member.Root, Name: o.Name, Site: o.Site, Replaces: o.Replaces, TTL: o.TTL})
}

// inviteTTLMax bounds how long an invitation may be good.
const inviteTTLMax = 30 * 24 * time.Hour

// Invite makes an invitation for a person.
func (n backend) Invite(ctx context.Context, req api.InviteRequest) (api.Invite, error) {
	if err := n.outcast(); err != nil {
		return api.Invite{}, err
	}
	o := InviteOptions{Name: req.Name, Site: req.Site, TTL: time.Duration(req.TTL)}
	if o.TTL < 0 || o.TTL > inviteTTLMax {
		return api.Invite{}, fmt.Errorf("ttl %v: %w: more than zero, at most %v", o.TTL, placement.ErrInvalid, inviteTTLMax)
	}
	if req.Replaces != "" {
		var err error
		if o.Replaces, err = n.findPeer(req.Replaces); err != nil {
			return api.Invite{}, err
		}
	}
	text, err := n.Node.Invite(ctx, o)
	if err != nil {
		return api.Invite{}, err
	}
	token, err := trust.ParseToken(text)
	if err != nil {
		return api.Invite{}, err
	}
	out := api.Invite{Token: text, Name: req.Name, Root: n.member.Mesh, Expires: time.Unix(token.Expires, 0).UTC(), Address: []string{n.cfg.Advertise}}
	for _, m := range n.gossip.Members() { // any peer can let the newcomer in
		if m.State == gossip.StateAlive && len(out.Address) < 3 {
			out.Address = append(out.Address, m.Addr)
		}
	}
	return out, nil
}

// Forget shuts a peer out, for good.
func (n backend) Forget(ctx context.Context, peer string, withAdmitted bool) error {
	if err := n.outcast(); err != nil {
		return err
	}
	id, err := n.findPeer(peer)
	if err != nil {
		return err
	}
	if id == n.id.ID() {
		return fmt.Errorf("forget %s: %w: that is this peer: ask another one", peer, placement.ErrInvalid)
	}
	return n.revoke(ctx, id, withAdmitted)
}

func (n *Node) revoke(ctx context.Context, id string, withAdmitted bool) error {
	if errors.Is(n.trust.Admitted(id), trust.ErrRevoked) {
		return nil
	}
	raw, err := trust.Revoke(n.id, trust.Revocation{
		Peer: id, At: time.Now().Unix(), Knew: n.trust.AdmittedBy(id), WithAdmitted: withAdmitted,
	})
	if err != nil {
		return err
	}
	n.tellForgotten(ctx, id, raw) // while it still listens
	return n.publishTrust(ctx, raw)
}

// JoinResult says which mesh was entered, and as whom.
type JoinResult struct {
	Mesh, Peer, Name, Site string
}

// Join enters a mesh with Config.Token, at any of Config.Join, and prepares
// the data folder; it starts nothing.
func Join(ctx context.Context, cfg Config) (JoinResult, error) {
	if err := cfg.Validate(); err != nil {
		return JoinResult{}, err
	}
	n := &Node{cfg: cfg.withDefaults(), log: slog.Default()} // it tells of what it waits for
	n.cfg.Listen = ":0"                                      // only to ask from
	if m, err := loadMembership(cfg.DataDir); err == nil {
		return JoinResult{}, fmt.Errorf("data folder %s: %w: it belongs to peer %s of mesh %s already: start it with 'hansa agent', or use another",
			cfg.DataDir, placement.ErrConflict, m.Name, m.Mesh)
	}
	if err := errors.Join(n.openIdentity(), n.openConn()); err != nil {
		return JoinResult{}, errors.Join(err, n.close())
	}
	err := errors.Join(n.enter(ctx), n.close())
	return JoinResult{Mesh: n.member.Mesh, Peer: n.id.ID(), Name: n.member.Name, Site: n.member.Site}, err
}

// InitConfig says which mesh to found.
type InitConfig struct {
	DataDir string // of the first peer
	Name    string // of the first peer
	Site    string
	RootDir string // where the root's key goes; default "root" in DataDir
}

// InitResult says what was founded.
type InitResult struct {
	Mesh    string // id of the root key
	Peer    string // id
	RootDir string
}

// Init founds a mesh: its root key, and the first peer's data folder. It
// starts nothing.
func Init(cfg InitConfig) (InitResult, error) {
	var none InitResult
	for field, v := range map[string]string{"name": cfg.Name, "site": cfg.Site} {
		if !labelName.MatchString(v) {
			return none, fmt.Errorf("%s %q: %w: %s", field, v, placement.ErrInvalid, labelRule)
		}
	}
	if m, err := loadMembership(cfg.DataDir); err == nil {
		return none, fmt.Errorf("data folder %s: %w: it belongs to peer %s of mesh %s already: use another", cfg.DataDir, placement.ErrConflict, m.Name, m.Mesh)
	} else if !errors.Is(err, errNotInMesh) {
		return none, err
	}
	if cfg.RootDir == "" {
		cfg.RootDir = filepath.Join(cfg.DataDir, rootDir)
	}
	if _, err := os.Stat(cfg.RootDir); err == nil {
		if root, err := identity.Load(cfg.RootDir); err == nil {
			return none, fmt.Errorf("root folder %s: %w: it holds the root key of mesh %s already", cfg.RootDir, placement.ErrConflict, root.ID())
		}
	}
	peer, err := identityOf(cfg.DataDir)
	if err != nil {
		return none, err
	}
	root, err := identity.New()
	if err != nil {
		return none, err
	}
	record, err := trust.Admit(root, trust.Admission{Key: peer.Public(), Name: cfg.Name, Site: cfg.Site, At: time.Now().Unix()})
	if err != nil {
		return none, err
	}
	if err := root.Save(cfg.RootDir); err != nil {
		return none, fmt.Errorf("root key: %w", err)
	}
	m := membership{Mesh: root.ID(), Root: root.Public(), Name: cfg.Name, Site: cfg.Site, Records: [][]byte{record}}
	return InitResult{Mesh: root.ID(), Peer: peer.ID(), RootDir: cfg.RootDir}, m.save(cfg.DataDir)
}
