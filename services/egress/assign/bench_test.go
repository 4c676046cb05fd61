package assign

import (
	"testing"
	"time"

	"github.com/damask-sdn/damask/services/egress/liveness"
)

// BenchmarkPlacement measures what decisions cost with 1,000 and with 10,000 egress IPs
// on 100 nodes, without the store: all at once and one after the other; a change of one
// wish; a node that joins and is filled; a node that dies, by the address that moves.
func BenchmarkPlacement(b *testing.B) {
	const few, many = 1000, 10_000
	var oneByOne, anew, change, join time.Duration
	perMove := map[int]time.Duration{}
	for b.Loop() {
		c := newCrowd(b, 0)
		c.decide()
		for i := range few {
			c.bring(i)
			_, took := c.decide()
			oneByOne += took
		}
		c.want(5, 50_000)
		_, took := c.decide()
		change += took
		c.join(crowdNodes)
		keys, took := c.decide()
		if join += took; keys == 0 {
			b.Fatal("the node that joined is not filled")
		}
		for _, count := range []int{few, many} {
			c := newCrowd(b, count)
			_, took := c.decide()
			if count == few {
				anew += took
			}
			moves := len(c.desk.hosting("n007").addresses)
			c.book.SetHealth(liveness.Verdict{Node: "n007", Health: liveness.Down})
			_, took = c.decide()
			if moves == 0 {
				b.Fatal("the node that dies has no address")
			}
			perMove[count] += took / time.Duration(moves)
		}
	}
	report := func(d time.Duration, unit string) {
		b.ReportMetric(float64(d.Nanoseconds())/1e3/float64(b.N), unit)
	}
	report(anew, "all-µs")
	report(oneByOne, "one-by-one-µs")
	report(change, "change-µs")
	report(join, "join-µs")
	report(perMove[few], "move-of-few-µs")
	report(perMove[many], "move-of-many-µs")
}
