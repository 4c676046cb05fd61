package registry

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/token"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// kind is the kind of the keys that hold pods.
const kind = "pod"

// Name names a pod.
type Name struct {
	Namespace, Pod string
}

func nameOf(pod *tenancyv1.Pod) Name { return Name{pod.GetNamespace(), pod.GetName()} }

func (n Name) compare(other Name) int {
	return cmp.Or(strings.Compare(n.Namespace, other.Namespace), strings.Compare(n.Pod, other.Pod))
}

// Index follows which pods there are, on which node, and of which nodes agents have
// reported, so that neither a node's report nor a page of a list reads the whole registry. It
// learns of every change before the bucket's view shows it.
type Index struct {
	mu     sync.Mutex
	nodeOf map[Name]string
	ofNode map[string]map[Name]bool // true: foreign
	// reported are the nodes that are marked, and those that have pods that are not foreign.
	marked map[string]bool // nodes of which an agent has reported
	own    map[string]int  // how many pods of a node are not foreign
	// sorted is all names in order; it is made anew when stale says so, since
	// lists are rare and changes are not.
	sorted []Name
	stale  bool
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	x := &Index{}
	x.reset()
	return x
}

func (x *Index) reset() {
	x.nodeOf, x.ofNode = map[Name]string{}, map[string]map[Name]bool{}
	x.marked, x.own = map[string]bool{}, map[string]int{}
	x.sorted, x.stale = nil, true
}

// Observe takes over changes of the bucket; after a reset they are all there is.
func (x *Index) Observe(changes []bucket.Change, reset bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if reset {
		x.reset()
	}
	for _, c := range changes {
		if node, ok := nodeOfMark(c.Key); ok {
			if x.marked[node] = true; c.Deleted {
				delete(x.marked, node)
			}
			continue
		}
		name, ok := nameOfKey(c.Key)
		if !ok {
			continue
		}
		x.remove(name)
		if c.Deleted {
			continue
		}
		pod := &tenancyv1.Pod{}
		// A value that cannot be read has no node, and shows in every list as
		// an error there.
		_ = proto.Unmarshal(c.Value, pod)
		x.insert(name, pod.GetNode(), IsForeign(pod))
	}
}

func (x *Index) insert(name Name, node string, foreign bool) {
	x.nodeOf[name], x.stale = node, true
	if x.ofNode[node] == nil {
		x.ofNode[node] = map[Name]bool{}
	}
	x.ofNode[node][name] = foreign
	if !foreign {
		x.own[node]++
	}
}

func (x *Index) remove(name Name) {
	node, found := x.nodeOf[name]
	if !found {
		return
	}
	delete(x.nodeOf, name)
	x.stale = true
	if !x.ofNode[node][name] {
		if x.own[node]--; x.own[node] == 0 {
			delete(x.own, node)
		}
	}
	if delete(x.ofNode[node], name); len(x.ofNode[node]) == 0 {
		delete(x.ofNode, node)
	}
}

// Count is how many pods there are.
func (x *Index) Count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.nodeOf)
}

// Nodes answers the nodes of which agents have reported, in order.
func (x *Index) Nodes() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := maps.Clone(x.marked)
	for node := range x.own {
		all[node] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// has says whether a node is one of them.
func (x *Index) has(node string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.marked[node] || x.own[node] > 0
}

// ForeignOf answers the foreign pods of a node, in order.
func (x *Index) ForeignOf(node string) (names []Name) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, foreign := range x.ofNode[node] {
		if foreign {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, Name.compare)
	return names
}

// OfNode answers the pods of a node, in order.
func (x *Index) OfNode(node string) []Name {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ofNodeLocked(node)
}

func (x *Index) ofNodeLocked(node string) []Name {
	names := make([]Name, 0, len(x.ofNode[node]))
	for name := range x.ofNode[node] {
		names = append(names, name)
	}
	slices.SortFunc(names, Name.compare)
	return names
}

// Filter says which pods a list has; empty fields are all.
type Filter struct {
	Namespace, Node string
	// After leaves out this pod and those before it.
	After Name
}

// Page answers up to size names that pass the filter, in order, and whether
// there are more.
func (x *Index) Page(f Filter, size int) (names []Name, more bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.all()
	if f.Node != "" {
		all = x.ofNodeLocked(f.Node)
	}
	from := f.After
	if first := (Name{Namespace: f.Namespace}); from.compare(first) < 0 {
		from = first // a namespace's own pods come after its name alone
	}
	at, found := slices.BinarySearchFunc(all, from, Name.compare)
	if found {
		at++
	}
	for _, name := range all[at:] {
		if f.Namespace != "" && name.Namespace != f.Namespace {
			return names, false
		}
		if len(names) == size {
			return names, true
		}
		names = append(names, name)
	}
	return names, false
}

// all answers all names in order.
func (x *Index) all() []Name {
	if x.stale {
		x.sorted, x.stale = x.sorted[:0], false
		for name := range x.nodeOf {
			x.sorted = append(x.sorted, name)
		}
		slices.SortFunc(x.sorted, Name.compare)
	}
	return x.sorted
}

// nodeOfMark answers the node of the key of its mark.
func nodeOfMark(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, reportedKind+".")
	if !ok {
		return "", false
	}
	node, err := token.Decode(rest)
	return node, err == nil
}

// nameOfKey answers the pod of its key.
func nameOfKey(key string) (Name, bool) {
	rest, ok := strings.CutPrefix(key, kind+".")
	if !ok {
		return Name{}, false
	}
	first, second, ok := strings.Cut(rest, ".")
	if !ok {
		return Name{}, false
	}
	namespace, errNamespace := token.Decode(first)
	pod, errPod := token.Decode(second)
	return Name{namespace, pod}, errNamespace == nil && errPod == nil
}
