// Command damask-certificates gives the processes of a cluster on Kubernetes their
// certificates: the control services' as Secrets, the nodes' on request.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/damask-sdn/damask/cmd/internal/certificates"
	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/identity"
)

// options are the command line.
type options struct {
	kubeconfig, namespace, trustDomain, services, agents, health string
	lifetime, caLifetime, spread                                 time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` that says where the API server is; without it the pod's ServiceAccount does")
	flag.StringVar(&o.namespace, "namespace", "damask-system", "`namespace` of the Secrets and of the ConfigMap")
	flag.StringVar(&o.trustDomain, "trust-domain", identity.DefaultTrustDomain, "trust `domain` of the cluster")
	flag.StringVar(&o.services, "services", "nats,ipam,tenancy,servicelb,egress", "`names` of the services whose certificates are issued; empty: somebody else issues them, and makes the CA")
	flag.StringVar(&o.agents, "agents", "damask-nodeagent", "`name` of the agents' ServiceAccount")
	flag.StringVar(&o.health, "metrics", "", "`HOST:PORT` for /metrics and /healthz; empty: nowhere")
	flag.DurationVar(&o.lifetime, "lifetime", 90*24*time.Hour, "how long a certificate is good; it is replaced when a third is left")
	flag.DurationVar(&o.caLifetime, "ca-lifetime", 10*365*24*time.Hour, "how long the CA is good; it is replaced when a third is left")
	flag.DurationVar(&o.spread, "spread", 24*time.Hour, "how long a new CA is trusted before it issues")
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *version {
		fmt.Println("damask-certificates", daemon.Version())
		return
	}
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "damask-certificates:", err)
		os.Exit(daemon.ExitError)
	}
}

func run(o *options) error {
	if err := o.check(); err != nil {
		return err
	}
	var services []identity.ID
	for name := range strings.SplitSeq(o.services, ",") {
		if name == "" {
			continue
		}
		id, err := identity.Service(name)
		if err != nil {
			return err
		}
		services = append(services, id)
	}
	// Without a file: as the pod's ServiceAccount.
	cfg, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return err
	}
	cfg.UserAgent = "damask-certificates"
	// A thousand nodes that join at once ask for two requests each: as much as the services'
	// own bound, where client-go's would have the last one wait for minutes.
	cfg.QPS, cfg.Burst = 50, 100
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "damask-certificates", Output: os.Stderr, JSONFormat: true})
	keeper := &certificates.Keeper{
		Client: client, Namespace: o.namespace, TrustDomain: o.trustDomain, Services: services,
		Lifetime: o.lifetime, CALifetime: o.caLifetime, Spread: o.spread, Now: time.Now, Log: log,
	}
	signer := &certificates.Signer{
		Client: client, Requester: "system:serviceaccount:" + o.namespace + ":" + o.agents,
		TrustDomain: o.trustDomain, Lifetime: o.lifetime, CA: keeper.CA, Log: log,
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return keeper.Run(ctx) })
	group.Go(func() error { return signer.Run(ctx) })
	if o.health != "" {
		monitor, err := daemon.NewMonitor(o.health, daemon.NewRegistry(), func() error { _, err := keeper.CA(); return err })
		if err != nil {
			return err
		}
		group.Go(func() error { return monitor.Run(ctx) })
	}
	return group.Wait()
}

// check names everything that is wrong with the durations.
func (o *options) check() error {
	var wrong []string
	if o.lifetime < time.Hour {
		wrong = append(wrong, fmt.Sprintf("-lifetime: %v is shorter than an hour", o.lifetime))
	}
	if o.caLifetime < 4*o.lifetime {
		wrong = append(wrong, fmt.Sprintf("-ca-lifetime: %v is shorter than four times -lifetime", o.caLifetime))
	}
	// What the CA before has issued must end before that CA does.
	if o.spread < 0 || o.spread > o.caLifetime/3-o.lifetime {
		wrong = append(wrong, fmt.Sprintf("-spread: %v is not within 0 and a third of -ca-lifetime less -lifetime", o.spread))
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}
