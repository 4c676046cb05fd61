package names

import (
	"context"
	"time"
)

const (
	// promptTime is how long a look-up may have one of the first places: a server that
	// knows the answer, or finds it, takes some milliseconds. What takes longer is looked
	// up anew among its like, with all the time that servers have.
	promptTime = 250 * time.Millisecond
	// promptPlaces and slowPlaces are how many look-ups there are at once, and so how many
	// sockets. Together they are below the 150 questions that dnsmasq, a common forwarder,
	// has open at once by default: beyond, it refuses everybody's.
	promptPlaces = 64
	slowPlaces   = 64
)

// lane is look-ups under way that share places. There are two: a name whose servers are
// silent has a place for seconds, which no name whose servers answer may have to wait for.
type lane struct {
	places int
	limit  time.Duration // of each look-up; zero: what the resolver takes
	flying map[string]bool
}

func newLane(places int, limit time.Duration) *lane {
	return &lane{places: places, limit: limit, flying: map[string]bool{}}
}

// result is the end of a look-up.
type result struct {
	lane   *lane
	name   string
	answer Answer
	err    error
	took   time.Duration
}

// prompt says whether it ended as soon as those whose servers answer.
func (r result) prompt() bool { return r.took < promptTime }

// fly begins as many look-ups as there are places for; an answer makes room for the next.
func (k *keeper) fly(ctx context.Context, l *lane, due []string) {
	free := l.places - len(l.flying)
	if len(due) > free {
		due = k.book.inTurn(due)[:free]
	}
	for _, name := range due {
		l.flying[name] = true
		go func() {
			within, cancel := ctx, context.CancelFunc(func() {})
			if l.limit > 0 {
				within, cancel = context.WithTimeout(ctx, l.limit)
			}
			defer cancel()
			began := time.Now()
			answer, err := k.resolver.Lookup(within, name)
			k.answers <- result{l, name, answer, err, time.Since(began)}
		}()
	}
}
