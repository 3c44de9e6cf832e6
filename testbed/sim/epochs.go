package sim

import (
	"slices"

	"github.com/hansa-mesh/hansa/placement"
)

// keeperLists is the lists of keepers that counted anywhere, by app and epoch.
type keeperLists map[placement.UID]map[uint64]placement.Keepers

// written looks at a keeper's record: of each epoch there is one list.
func (l keeperLists) written(w *world, p *peer, k placement.Kept) {
	list := k.Keepers
	if list.UID == "" {
		return
	}
	if l[list.UID] == nil {
		l[list.UID] = map[uint64]placement.Keepers{}
	}
	known, ok := l[list.UID][list.Epoch]
	if !ok {
		l[list.UID][list.Epoch] = list
		if list.Epoch > 1 {
			w.oracle.stats.Lists++
		}
		return
	}
	if !slices.Equal(known.Peers, list.Peers) {
		w.fail("%s: the keepers of %s in epoch %d are %v here, and %v elsewhere", p.id, k.Key, list.Epoch, list.Peers, known.Peers)
	}
}

// last is the list that counts now.
func (l keeperLists) last(uid placement.UID, list placement.Keepers) placement.Keepers {
	for epoch, k := range l[uid] {
		if epoch > list.Epoch {
			list = k
		}
	}
	return list
}
