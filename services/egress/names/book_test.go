package names

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/store"
)

// TestNamespacesTakeTurns has one with many names, one with few of which it shares one, and one
// with a wildcard.
func TestNamespacesTakeTurns(t *testing.T) {
	b := NewBook()
	put := func(namespace, policy string, names ...string) {
		p := &egressv1.EgressNetworkPolicy{Namespace: namespace, Name: policy}
		for _, name := range names {
			p.Rules = append(p.Rules, &egressv1.EgressRule{DnsName: name})
		}
		value, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		b.Observe([]bucket.Change{{Entry: bucket.Entry{Key: store.Policies().Key(namespace, policy), Value: value}, Deleted: len(names) == 0}}, false)
	}
	due := []string{"a1.example.com", "a2.example.com", "a3.example.com", "a4.example.com", "b1.example.com", "b2.example.com", "c1.deep.example.org"}
	want := func(order ...string) {
		t.Helper()
		if got := b.inTurn(due); !slices.Equal(got, order) {
			t.Errorf("got %v, want %v", got, order)
		}
	}
	want(due...) // nobody's
	put("a", "out", due[:4]...)
	put("b", "out", "a4.example.com", "b1.example.com", "b2.example.com")
	put("c", "out", "*.example.org")
	want("a1.example.com", "a4.example.com", "c1.deep.example.org", "a2.example.com", "b1.example.com", "a3.example.com", "b2.example.com")
	put("b", "more", "b2.example.com")
	put("b", "out")
	want("a1.example.com", "b2.example.com", "c1.deep.example.org", "a2.example.com", "a3.example.com", "a4.example.com", "b1.example.com")
}
