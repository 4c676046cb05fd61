package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/destination"
)

// Environment variables of the pod. One of the first two is required, which are as
// OpenShift's images have them.
const (
	variableHTTP = "EGRESS_HTTP_PROXY_DESTINATION"
	variableDNS  = "EGRESS_DNS_PROXY_DESTINATION"
	variableLog  = "EGRESS_ROUTER_LOG"
)

// Config is what the proxy shall do.
type Config struct {
	// Device is the interface that leads outward.
	Device string
	// HTTP are the rules of a proxy for HTTP; nil: it is none.
	HTTP *destination.HTTPRules
	// Forwards are the ports of a proxy for names.
	Forwards []destination.Forward
	// Log says what is logged.
	Log daemon.Log
}

// FromEnvironment reads the proxy's environment. Its error names every bad line.
func FromEnvironment(device string, lookup func(name string) (string, bool)) (Config, error) {
	c := Config{Device: device}
	web, isHTTP := lookup(variableHTTP)
	names, isDNS := lookup(variableDNS)
	var problems []string
	about := func(variable string, found destination.Problems) {
		for _, p := range found {
			problems = append(problems, variable+": "+p)
		}
	}
	if isHTTP == isDNS {
		about("environment", destination.Problems{fmt.Sprintf("either %s or %s is required", variableHTTP, variableDNS)})
	}
	if isHTTP {
		rules, found := destination.ParseHTTP(web)
		c.HTTP = &rules
		about(variableHTTP, found)
	}
	if isDNS {
		var found destination.Problems
		c.Forwards, found = destination.ParseDNS(names)
		about(variableDNS, found)
	}
	if c.Log.Level, _ = lookup(variableLog); c.Log.Level != "" && hclog.LevelFromString(c.Log.Level) == hclog.NoLevel {
		about(variableLog, destination.Problems{fmt.Sprintf("%q is not trace, debug, info, warn or error", c.Log.Level)})
	}
	if len(problems) > 0 {
		return Config{}, errors.New(strings.Join(problems, "\n"))
	}
	return c, nil
}

// Run is the proxy until ctx ends. Connections then have lingerTime to come to their end.
func Run(ctx context.Context, c Config, log hclog.Logger) error {
	out := newOutward(c.Device)
	pipes, cut := newPipes(ctx)
	defer cut()
	group, ctx := errgroup.WithContext(ctx)
	if c.HTTP != nil {
		listeners, err := out.listen(ctx, httpPort)
		if err != nil {
			return err
		}
		serveHTTP(ctx, group, newHTTPProxy(*c.HTTP, out, pipes, log), listeners)
		log.Info("proxy for HTTP is ready", "port", httpPort)
	}
	if err := serveForwards(ctx, group, c.Forwards, out, pipes, log); err != nil {
		return err
	}
	if err := group.Wait(); err != nil {
		return err
	}
	pipes.all.Wait()
	return nil
}

// serveHTTP answers on the listeners until ctx ends.
func serveHTTP(ctx context.Context, group *errgroup.Group, proxy *httpProxy, listeners []net.Listener) {
	server := &http.Server{
		Handler: proxy, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime,
		ErrorLog: proxy.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	for _, l := range listeners {
		group.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve HTTP: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lingerTime)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			return server.Close()
		}
		return nil
	})
}

// serveForwards takes connections of all ports until ctx ends.
func serveForwards(ctx context.Context, group *errgroup.Group, forwards []destination.Forward, out *outward, pipes *pipes, log hclog.Logger) error {
	var all []net.Listener
	closeAll := func() {
		for _, l := range all {
			_ = l.Close()
		}
	}
	for _, to := range forwards {
		listeners, err := out.listen(ctx, to.Port)
		if err != nil {
			closeAll()
			return err
		}
		f := newForwarder(to, out, pipes, log)
		for _, l := range listeners {
			group.Go(func() error { return f.serve(l) })
		}
		all = append(all, listeners...)
	}
	if len(forwards) > 0 {
		log.Info("proxy for names is ready", "ports", len(forwards))
		group.Go(func() error {
			<-ctx.Done()
			closeAll()
			return nil
		})
	}
	return nil
}
