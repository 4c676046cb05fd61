package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// How an API server is asked that went away: whether it is ready, once a second, more or less.
const (
	presencePause = time.Second
	// presenceFirst is for one that was only restarted, or has another beside it.
	presenceFirst = 200 * time.Millisecond
	// presenceLimit bounds a question. A network that swallows packets answers nothing.
	presenceLimit = 3 * time.Second
	// presenceSpread is within which time those begin who waited, so that not all lists of a
	// process, and not those of a thousand nodes, are asked for at the same moment.
	presenceSpread = 500 * time.Millisecond
	// presenceForbidden is for how long an API server that forbids the question is not
	// believed: it forbids everything until it has read what is allowed.
	presenceForbidden = 5 * time.Second
)

var away = prometheus.NewGauge(prometheus.GaugeOpts{
	Name: "damask_kubernetes_away",
	Help: "1 while the API server is not reached, is not ready or does not accept this process's credentials, so that what was known before it stays in force.",
})

// Register registers what a process knows of its API server: a process has one.
func Register(reg *prometheus.Registry) { reg.MustRegister(away) }

// presence is what a process knows of its API server's being there. It asks only while
// somebody waits for that, and one asks for all.
type presence struct {
	ask  func(context.Context) error
	log  hclog.Logger
	turn chan struct{} // whoever put something in asks

	mu       sync.Mutex
	answered time.Time // when it last said that it was ready
	since    time.Time // from when on it has not; zero: it has
	refused  bool      // that it refuses the credentials was said
}

// newPresence asks the API server of a configuration by its client.
func newPresence(cfg *rest.Config, web *http.Client, log hclog.Logger) (*presence, error) {
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	url := base.JoinPath("readyz").String()
	ask := func(ctx context.Context) error { return readyz(ctx, web, url) }
	return &presence{ask: ask, log: log, turn: make(chan struct{}, 1)}, nil
}

// notReady is an answer that does not say that the API server is ready.
type notReady int

// Error says what was answered.
func (n notReady) Error() string {
	return fmt.Sprintf("the API server answers %d %s", int(n), http.StatusText(int(n)))
}

func readyz(ctx context.Context, web *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, presenceLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := web.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16)) // or the connection is not used again
	if response.StatusCode != http.StatusOK {
		return notReady(response.StatusCode)
	}
	return nil
}

// isAbsence says whether an error of a request may mean that the API server is away, or does
// not know us at the moment: everything but its own word about what was asked for.
func isAbsence(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := int(status.Status().Code)
	return code == http.StatusUnauthorized || code >= http.StatusInternalServerError
}

// await returns when the API server is ready, after a request failed, why. An error is the
// context's.
func (p *presence) await(ctx context.Context, why error) error {
	failed := time.Now()
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := p.ready(ctx, failed, why)
	<-p.turn
	if err != nil {
		return err
	}
	return pause(ctx, rand.N(presenceSpread))
}

// ready asks until the API server is ready, unless it was since failed.
func (p *presence) ready(ctx context.Context, failed time.Time, why error) error {
	next := presenceFirst
	var forbidden time.Time // since when that is all it says
	for !p.seenSince(failed) {
		if err := pause(ctx, next/2+rand.N(next)); err != nil {
			return err
		}
		next = presencePause
		err := p.ask(ctx)
		var said notReady
		if forbids := errors.As(err, &said) && (said == http.StatusForbidden || said == http.StatusNotFound); !forbids {
			forbidden = time.Time{}
		} else if forbidden.IsZero() {
			forbidden = time.Now()
		} else if time.Since(forbidden) > presenceForbidden {
			err = nil
		}
		switch {
		case err == nil:
			p.isThere()
		case ctx.Err() == nil:
			p.isAway(failed, why, err)
		}
	}
	return nil
}

func (p *presence) seenSince(moment time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered.After(moment)
}

func (p *presence) isThere() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered = time.Now()
	if p.since.IsZero() {
		return
	}
	p.log.Info("the API server is back", "after", time.Since(p.since).Round(time.Second))
	p.since, p.refused = time.Time{}, false
	away.Set(0)
}

// isAway says so once, and once more when it is there and does not accept who we are.
func (p *presence) isAway(failed time.Time, why, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		p.since = failed
		away.Set(1)
		p.log.Warn("the API server is away, what was known stays in force", "request", reason(why), "error", err)
	}
	var said notReady
	if errors.As(err, &said) && said == http.StatusUnauthorized && !p.refused {
		p.refused = true
		p.log.Warn("the API server does not accept our credentials, asking on: a token that ended while it was away is replaced by the kubelet, within two minutes")
	}
}

// pause waits. An error is the context's.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
