package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

// Prefixes of the store's tables: what replicated tables keep is apart from
// what the core keeps for itself.
const (
	replicatedPrefix = "table."
	corePrefix       = "core."
)

// coreTables are replicated for the core; the node only carries them.
var coreTables = []string{placement.TableIntents, placement.TableKeepers, placement.TableStatus}

// storeLog is a store's table as the log of a replicated table.
type storeLog struct {
	store *store.Store
	table string
}

func (l storeLog) Load(fn func(key string, value []byte) error) error {
	return l.store.Scan(l.table, "", fn)
}

func (l storeLog) Apply(ctx context.Context, writes []table.Write) error {
	out := make([]store.Write, len(writes))
	for i, w := range writes {
		out[i] = store.Write{Table: l.table, Key: w.Key, Value: w.Value}
	}
	return l.store.Commit(ctx, out)
}

func (n *Node) openTables() error {
	n.tables = map[string]*table.Replica{}
	open := func(cfg table.Config) error {
		cfg.Self, cfg.Incarnation = n.id.ID(), n.store.Incarnation()
		replica, err := table.Open(table.ReplicaConfig{
			Table: cfg, Log: storeLog{n.store, replicatedPrefix + cfg.Name},
			Logger: n.log.With("part", "table", "table", cfg.Name),
		})
		if err != nil {
			return err
		}
		n.tables[cfg.Name] = replica
		return nil
	}
	if err := n.openTrust(open); err != nil {
		return err
	}
	for _, name := range coreTables {
		if err := open(table.Config{Name: name, Check: n.checkRecord}); err != nil {
			return err
		}
	}
	if err := n.openSecrets(open); err != nil {
		return err
	}
	return n.openImages(open)
}

// recordKey is a key of a replicated table.
type recordKey struct{ table, key string }

// recordChanged tells the core of a key of a replicated table that changed. What
// the core publishes is over what it was told of: so of a key that it may write
// it is told after it has written. Of the status of others it writes nothing.
func (n *Node) recordChanged(k recordKey) {
	own := k.table != placement.TableStatus || placement.StatusOf(k.key) == n.self().Peer
	n.loop.postLate(own, func() placement.Event {
		return placement.RecordChanged{Table: k.table, Key: k.key, Siblings: n.siblings(k)}
	})
}

// siblings are the values of a key as the core is about to be told, and notes
// their dots: what the core publishes is over those, and over no edit that it
// has not seen. Only the loop's goroutine calls it, once the loop runs.
func (n *Node) siblings(k recordKey) [][]byte {
	values, dots := n.publisher.values(k)
	if n.told[k] = dots; len(dots) == 0 {
		delete(n.told, k)
	}
	return values
}

// loadCore gives the core what it kept, and the replicated records that this
// peer holds.
func (n *Node) loadCore(core *placement.Peer) error {
	for _, name := range core.Tables() {
		err := n.store.Scan(corePrefix+name, "", func(key string, value []byte) error {
			return core.Load(name, key, value)
		})
		if err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	for _, name := range coreTables {
		replica := n.tables[name]
		replica.Range("", func(key string, _ []byte) bool {
			k := recordKey{name, strings.Clone(key)}
			core.LoadTable(name, k.key, n.siblings(k))
			return true
		})
	}
	return nil
}
