package image

import "sync"

// rememberedMax bounds the parts of trees that Trees remembers.
const rememberedMax = 500_000

// Trees answers what of trees is here, over and over: what a manifest is made of
// never changes, so that only what is here is looked at again.
type Trees struct {
	store Store

	mu    sync.Mutex // guards what follows
	parts map[treeKey][]Part
	count int              // of parts
	whole map[treeKey]bool // seen whole, and nothing has gone since
	gone  uint64           // rises when a blob goes
}

// treeKey is a root, and the architecture that the tree is cut down to.
type treeKey struct{ root, arch string }

// NewTrees is over a store.
func NewTrees(store Store) *Trees {
	return &Trees{store: store, parts: map[treeKey][]Part{}, whole: map[treeKey]bool{}}
}

// Whole says whether all of a tree is here, or with arch what of it runs there.
func (t *Trees) Whole(root, arch string) bool {
	t.mu.Lock()
	whole := t.whole[treeKey{root, arch}]
	t.mu.Unlock()
	if whole {
		return true
	}
	tree, err := t.Tree(root, arch)
	return err == nil && tree.Whole()
}

// Tree is what of a tree is here; see Walk.
func (t *Trees) Tree(root, arch string) (Tree, error) {
	key := treeKey{root, arch}
	t.mu.Lock()
	parts, gone := t.parts[key], t.gone
	t.mu.Unlock()
	tree := Tree{Parts: parts}
	if parts == nil {
		var err error
		if tree, err = Walk(t.store, root, arch); err != nil {
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
	if t.parts[key] == nil {
		t.parts[key] = tree.Parts
		t.count += len(tree.Parts)
	}
	if t.gone == gone { // else something went while this looked
		t.whole[key] = true
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
