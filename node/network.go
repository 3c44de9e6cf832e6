package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/artifact"
	"github.com/hansa-mesh/hansa/node/holdings"
	"github.com/hansa-mesh/hansa/node/invoke"
	"github.com/hansa-mesh/hansa/node/secrets"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/transport"
	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

const (
	// kindSync are the streams of anti-entropy.
	kindSync = "sync/1"
	// methodDigest fetches a peer's whole digest.
	methodDigest = "digest/1"
	// tableNode is the store's table of what the node itself remembers.
	tableNode = "node"
	keyGossip = "gossip"
)

// openTransport wires the one port that peers use.
func (n *Node) openTransport() (err error) {
	n.link, err = transport.New(transport.Config{
		Identity: n.id, Trust: n.trust, Conn: n.conn, Join: n.join, Log: n.log.With("part", "transport"),
	})
	if err != nil {
		return err
	}
	for _, k := range n.member.Known {
		n.link.Learn(k.ID, k.Addr)
	}
	transport.HandleTyped(n.link, methodCore, n.receiveBatch)
	n.link.Handle(methodDigest, func(context.Context, string, []byte) ([]byte, error) { return n.gossip.WholeDigest() })
	n.link.HandleStream(artifact.Kind, func(ctx context.Context, from string, s *transport.Stream) error {
		return n.mover.Serve(ctx, from, s)
	})
	n.link.HandleStream(invoke.Kind, func(ctx context.Context, _ string, s *transport.Stream) error {
		return n.router.Serve(ctx, s)
	})
	n.link.HandleStream(kindSync, func(ctx context.Context, from string, s *transport.Stream) error {
		return n.gossip.HandleSync(ctx, from, s)
	})
	n.rulers = n.newRulers()
	n.serveQueries()
	return nil
}

// openGossip wires what spreads by itself over the transport.
func (n *Node) openGossip() error {
	var tables []*table.Replica
	for _, name := range append([]string{tableTrust, secrets.Table, holdings.Table}, coreTables...) {
		tables = append(tables, n.tables[name])
	}
	var seeds []gossip.Seed
	for _, k := range n.member.Known {
		seeds = append(seeds, gossip.Seed{ID: k.ID, Addr: k.Addr})
	}
	var err error
	n.gossip, err = gossip.New(gossip.Config{
		Self: n.id.ID(), Name: n.member.Name, Site: n.member.Site, Addr: n.cfg.Advertise, Version: n.deps.Version,
		PacketConn: n.link.PacketConn(), Dial: n.link.DialGossip, Accept: n.link.AcceptGossip,
		Signer: n.id.Signer(), KeyOf: n.admittedKey, RTT: n.link.RTT, Learn: n.link.Learn,
		Known: seeds, Load: n.loadGossip, Save: n.saveGossip,
		Pull: func(ctx context.Context, peer string) ([]byte, error) {
			return n.link.Call(ctx, peer, methodDigest, nil)
		},
		Tables: tables,
		OpenSync: func(ctx context.Context, peer string) (io.ReadWriteCloser, error) {
			return n.link.Open(ctx, peer, kindSync)
		},
		Events: n.gossiped, Logger: n.log.With("part", "gossip"),
	})
	if err != nil {
		return err
	}
	n.trust.OnChange(n.peerTrustChanged)
	return nil
}

// admittedKey is the key of a peer that may speak now.
func (n *Node) admittedKey(peer string) (ed25519.PublicKey, bool) {
	if n.trust.Admitted(peer) != nil {
		return nil, false
	}
	return n.trust.KeyOf(peer)
}

func (n *Node) loadGossip() ([]byte, error) {
	state, _, err := n.store.Get(tableNode, keyGossip)
	return state, err
}

func (n *Node) saveGossip(state []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), saveMax)
	defer cancel()
	return n.store.Commit(ctx, []store.Write{{Table: tableNode, Key: keyGossip, Value: state}})
}

// saveMax is how long saving what is only worth keeping may take.
const saveMax = 10 * time.Second

// members are all peers that this one knows of, itself first.
func (n *Node) members() []gossip.Member {
	return append([]gossip.Member{{
		Peer: n.id.ID(), Name: n.member.Name, Site: n.member.Site, Addr: n.cfg.Advertise, Version: n.deps.Version,
		State: gossip.StateAlive, Since: n.since, Heard: time.Now(),
	}}, n.gossip.Members()...)
}

// memberState is a member's state in the core's words.
func memberState(s gossip.State) placement.MemberState { return placement.MemberState(s.String()) }

var errNoToken = errors.New("this peer is in no mesh: found one with 'hansa init', or be let into one with 'hansa agent --join ADDR --token TOKEN' (the token is from 'hansa invite', at any peer)")

// enter makes sure that this peer is in a mesh: with its invitation when it is
// new.
func (n *Node) enter(ctx context.Context) error {
	member, err := loadMembership(n.cfg.DataDir)
	if err == nil {
		n.member = member
		if err := n.ownKey(); err != nil {
			return err
		}
		n.keepBoth()
		return n.sameMember()
	}
	if !errors.Is(err, errNotInMesh) {
		return err
	}
	if n.cfg.Token == "" || len(n.cfg.Join) == 0 {
		return fmt.Errorf("data folder %s: %w", n.cfg.DataDir, errNoToken)
	}
	n.member, err = n.joinMesh(ctx)
	if err != nil {
		return err
	}
	return n.member.save(n.cfg.DataDir)
}

// ownKey refuses a key that is not the one that was let in: the file was lost,
// and made anew, or is another peer's.
func (n *Node) ownKey() error {
	set := trust.NewSet(n.member.Root)
	for _, raw := range n.member.Records {
		if _, err := set.Add(raw); err != nil {
			return fmt.Errorf("%s: %w", meshFile, err)
		}
	}
	if _, ok := set.Admission(n.id.ID()); !ok {
		return fmt.Errorf("data folder %s: the key in %s is not that of %s, which was let in: put the right one back, or start with an empty folder and a new invitation ('hansa invite --name NAME --replaces %s')",
			n.cfg.DataDir, identityDir, n.member.Name, n.member.Name)
	}
	return nil
}

// keepBoth writes mesh.json and its copy where one was damaged or gone. A disk
// that takes neither keeps nobody from starting on the other.
func (n *Node) keepBoth() {
	for _, name := range []string{meshFile, meshCopy} {
		if _, err := readMembership(filepath.Join(n.cfg.DataDir, identityDir, name)); err != nil {
			n.log.Warn("the file that says which mesh this peer is in is written anew", "file", name, "why", err, "err", n.member.save(n.cfg.DataDir))
			return
		}
	}
}

// sameMember refuses flags that contradict what this peer was let in as.
func (n *Node) sameMember() error {
	if n.cfg.Name != "" && n.cfg.Name != n.member.Name {
		return fmt.Errorf("--name %s: this peer was let in as %s; leave the flag out, or use another --data-dir", n.cfg.Name, n.member.Name)
	}
	if n.cfg.Site != "" && n.cfg.Site != n.member.Site {
		return fmt.Errorf("--site %s: this peer was let in at %s; leave the flag out, or use another --data-dir", n.cfg.Site, n.member.Site)
	}
	// A token of this mesh may stay in the unit file for ever.
	if token, err := trust.ParseToken(n.cfg.Token); err == nil && identity.IDOf(token.Root) != n.member.Mesh {
		return fmt.Errorf("data folder %s: it belongs to peer %s of mesh %s, and the token lets into mesh %s: use another --data-dir",
			n.cfg.DataDir, n.member.Name, n.member.Mesh, identity.IDOf(token.Root))
	}
	return nil
}

// joinMesh asks the peers at --join, one after another, to be let in; and again, for
// a while, where one had too much to do: a mesh that many join at once lets in a few
// at a time.
func (n *Node) joinMesh(ctx context.Context) (m membership, err error) {
	again := func(wait time.Duration, err error) {
		n.log.Info("the mesh lets in no newcomer at this moment: asking again", "in", wait, "err", err)
	}
	err = whileBusy(ctx, again, func() error {
		m, err = n.askToJoin(ctx)
		return err
	})
	return m, err
}

// whileBusy asks until the answer is another than that a peer is busy, for
// joinPatience at most.
func whileBusy(ctx context.Context, again func(wait time.Duration, err error), ask func() error) error {
	end := time.Now().Add(joinPatience)
	for wait := joinAgain; ; wait = min(2*wait, joinAgainMax) {
		err := ask()
		if err == nil || !busy(err) || time.Now().Add(wait).After(end) {
			return err
		}
		again(wait, err)
		if !pause(ctx, wait) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

func (n *Node) askToJoin(ctx context.Context) (membership, error) {
	var errs []error
	for _, addr := range n.cfg.Join {
		ctx, cancel := context.WithTimeout(ctx, joinMax)
		reply, err := transport.Join(ctx, transport.JoinConfig{
			Identity: n.id, Conn: n.conn, Addr: addr, Token: n.cfg.Token, Name: n.cfg.Name, Site: n.cfg.Site,
		})
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("join %s: %w", addr, err))
			continue
		}
		return memberFrom(n.id, n.cfg.Token, reply)
	}
	return membership{}, errors.Join(errs...)
}

// busy is an answer of a peer that is there and may let this one in later.
func busy(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && e.Peer != "" && (e.Kind == transport.KindExhausted || e.Kind == transport.KindTimeout)
}

const (
	joinPatience = time.Minute
	joinAgain    = 500 * time.Millisecond
	joinAgainMax = 4 * time.Second
)

// joinMax is how long one peer may take to let this one in.
const joinMax = 15 * time.Second
