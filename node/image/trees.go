package image

import "sync"

// rememberedMax bounds the parts of trees that Trees remembers.
const rememberedMax = 500_000

// Trees answers what of trees is here, over and over: what a manifest is made of
// never changes, so that only what is here is looked at again.
type Trees struct {
	store Store

	mu    sync.Mutex // guards what follows
	parts map[string][]Part
	count int             // of parts
	whole map[string]bool // seen whole, and nothing has gone since
	gone  uint64          // rises when a blob goes
}

// NewTrees is over a store.
func NewTrees(store Store) *Trees {
	return &Trees{store: store, parts: map[string][]Part{}, whole: map[string]bool{}}
}

// Whole says whether all of a tree is here.
func (t *Trees) Whole(root string) bool {
	t.mu.Lock()
	whole := t.whole[root]
	t.mu.Unlock()
	if whole {
		return true
	}
	tree, err := t.Tree(root)
	return err == nil && tree.Whole()
}

// Tree is what of a tree is here.
func (t *Trees) Tree(root string) (Tree, error) {
	t.mu.Lock()
	parts, gone := t.parts[root], t.gone
	t.mu.Unlock()
	tree := Tree{Parts: parts}
	if parts == nil {
		var err error
		if tree, err = Walk(t.store, root); err != nil {
			return Tree{}, err
		}
	} else {
		for _, p := range parts {
			if !t.store.Has(p.Digest) {
				tree.Missing = append(tree.Missing, p)
			}
		}
	}
	if !tree.Whole() {
		return tree, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count+len(tree.Parts) > rememberedMax {
		clear(t.parts) // whoever asks again pays for one walk
		clear(t.whole)
		t.count = 0
	}
	if t.parts[root] == nil {
		t.parts[root] = tree.Parts
		t.count += len(tree.Parts)
	}
	if t.gone == gone { // else something went while this looked
		t.whole[root] = true
	}
	return tree, nil
}

// Gone says that a blob is not here any more.
func (t *Trees) Gone(string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone++
	clear(t.whole)
}
