package replicatest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// callTime bounds one try of a request.
	callTime = 10 * time.Second
	// patience is how long a request is made again and again.
	patience = 2 * time.Minute
)

// Again makes a request until it is answered: a replica that dies takes the answer with
// it, and the request must be safe to make again. Its error is what a replica answered, or
// what the last try met when there was no answer for two minutes.
func Again(do func(context.Context) error) error {
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(context.Background(), callTime)
		err := do(ctx)
		cancel()
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			if time.Now().Before(deadline) {
				continue
			}
		}
		return err
	}
}

// Call makes a request by Again, and notes what became of it.
type Call func(what string, do func(context.Context) error)

// Work is what clients do while replicas are killed.
type Work struct {
	Replicas []*Replica
	// Lives is how many there are, of namespaces or services, Clients how many of them
	// are lived at once.
	Lives, Clients int
	// Life makes the requests of one, by number from 0.
	Life func(i int, call Call)
	// KillEvery is how many answered requests lie between two kills: every moment of a
	// replica's life is hit, the start included.
	KillEvery int64
}

// Do does the work, and kills one of the replicas, any, and starts it again, all the
// while. It fails the test with the first requests that had no good answer: what cannot
// be done once takes minutes each time. It answers how many it killed.
func (w Work) Do(t *testing.T) (kills int) {
	t.Helper()
	began, p := time.Now(), &progress{news: make(chan struct{}, 1)}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		w.live(p)
	}()
	kills = w.killUntil(finished, p)
	for _, problem := range p.problems {
		t.Error(problem)
	}
	if t.Failed() {
		for _, r := range w.Replicas {
			t.Log(r.Complaints())
		}
		t.FailNow()
	}
	t.Logf("%d lives, %d requests answered, %d kills, %v", w.Lives, p.answered.Load(), kills, time.Since(began).Round(time.Second))
	return kills
}

func (w Work) live(p *progress) {
	numbers := make(chan int)
	var clients sync.WaitGroup
	for range w.Clients {
		clients.Go(func() {
			for i := range numbers {
				w.Life(i, p.call)
			}
		})
	}
	for i := 0; i < w.Lives && !p.failed(); i++ {
		numbers <- i
	}
	close(numbers)
	clients.Wait()
}

func (w Work) killUntil(finished <-chan struct{}, p *progress) (kills int) {
	for last := int64(0); ; {
		select {
		case <-finished:
			return kills
		case <-p.news:
			if p.answered.Load()-last < w.KillEvery {
				continue
			}
			last = p.answered.Load()
			victim := w.Replicas[rand.IntN(len(w.Replicas))]
			victim.Kill()
			victim.Restart()
			kills++
		}
	}
}

// progress is what became of requests.
type progress struct {
	answered atomic.Int64
	news     chan struct{} // answered has changed

	mu       sync.Mutex
	problems []string
}

func (p *progress) call(what string, do func(context.Context) error) {
	if err := Again(do); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.problems = append(p.problems, fmt.Sprintf("%s: %v", what, err))
		return
	}
	p.answered.Add(1)
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *progress) failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.problems) > 0
}
