package bucket

import (
	"hash/fnv"
	"strings"
)

// node is one key in a persistent search tree (a treap): changes copy the path
// from the root, so a root is a snapshot that costs nothing to keep and needs
// no lock to read. The heap order comes from a hash of the key, so the shape
// depends on the set of keys alone.
type node struct {
	item
	priority    uint64
	left, right *node
}

// item is what the store holds under a key; a tombstone when deleted.
type item struct {
	key      string
	value    []byte
	revision uint64
	deleted  bool
}

func hash(key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return h.Sum64()
}

func (n *node) find(key string) *node {
	for n != nil && n.key != key {
		if key < n.key {
			n = n.left
		} else {
			n = n.right
		}
	}
	return n
}

func (n *node) with(it item) *node {
	if n == nil {
		return &node{item: it, priority: hash(it.key)}
	}
	c := *n
	switch {
	case it.key == n.key:
		c.item = it
	case it.key < n.key:
		c.left = n.left.with(it)
		if l := c.left; l.priority > c.priority { // l is fresh: it is on the path
			c.left, l.right = l.right, &c
			return l
		}
	default:
		c.right = n.right.with(it)
		if r := c.right; r.priority > c.priority {
			c.right, r.left = r.left, &c
			return r
		}
	}
	return &c
}

func (n *node) without(key string) *node {
	if n == nil {
		return nil
	}
	if key == n.key {
		return merge(n.left, n.right)
	}
	c := *n
	if key < n.key {
		c.left = n.left.without(key)
	} else {
		c.right = n.right.without(key)
	}
	return &c
}

func merge(l, r *node) *node {
	if l == nil {
		return r
	}
	if r == nil {
		return l
	}
	if l.priority > r.priority {
		c := *l
		c.right = merge(l.right, r)
		return &c
	}
	c := *r
	c.left = merge(l, r.left)
	return &c
}

// walk calls yield for the items with the prefix whose keys are greater than
// after, in order of key, tombstones included, until yield answers false.
func (n *node) walk(prefix, after string, yield func(*item) bool) bool {
	if n == nil {
		return true
	}
	left := n.key > after && n.key >= prefix
	if left && !n.left.walk(prefix, after, yield) {
		return false
	}
	inside := strings.HasPrefix(n.key, prefix)
	if n.key > after && inside && !yield(&n.item) {
		return false
	}
	if n.key > prefix && !inside {
		return true // all that follows is behind the prefix
	}
	return n.right.walk(prefix, after, yield)
}
