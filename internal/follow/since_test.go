package follow

import (
	"context"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
)

// TestAReplicaThatIsBehindIsNotBelievedThatThereIsNoSuchObject: somebody hears of an object by
// another one that names it, after the object itself was told of, and asks a replica that has
// seen neither.
func TestAReplicaThatIsBehindIsNotBelievedThatThereIsNoSuchObject(t *testing.T) {
	server := natsdtest.New(t)
	s := newService(t, server)
	before := s.put("other", 1)
	s.put("shop", 42)
	since := s.put("names shop", 2)
	source, asked := s.source(), 0
	source.List = func(ctx context.Context, names []string) ([]namespace, uint64, error) {
		if asked++; asked == 1 {
			return nil, before, nil
		}
		return s.list(ctx, names)
	}
	f := New(server.Connect(), source, Options[namespace]{Log: hclog.NewNullLogger()})
	start(t, f.Run)
	f.WantSince("shop", since)
	if shop, exists, err := f.Find(soon(t), "shop"); err != nil || !exists || shop.GetNetid() != 42 {
		t.Errorf("found %v, %v, %v after %d lists", shop, exists, err, asked)
	}
	if newest := f.Newest(); newest < since {
		t.Errorf("the newest is %d, and there was %d", newest, since)
	}
}
