package nodeagent

import "github.com/damask-sdn/damask/internal/daemon"

// changes bring each field of the configuration that is live into force, by its path in the
// file. One that is in force already changes nothing. None waits.
var changes = map[string]func(*agent, Config){
	"auditInterval": func(a *agent, cfg Config) {
		a.plumbing.AuditEvery(cfg.AuditInterval)
		if a.services != nil {
			a.services.AuditEvery(cfg.AuditInterval)
		}
	},
	"dns.servers": func(a *agent, cfg Config) {
		if a.firewalls != nil {
			a.firewalls.ask(cfg.DNS.Servers)
		}
	},
	"networkPolicy.cutConnections": func(a *agent, cfg Config) {
		a.prog.Queue(a.plumbing.state.KeepConnections(!cfg.NetworkPolicy.CutConnections))
	},
}

// follow takes over what changes in the configuration file, and has the node's Node say what
// is wrong with it.
func (a *agent) follow(live *daemon.Live[Config]) {
	live.OnChange(func(cfg Config) {
		for _, change := range changes {
			change(a, cfg)
		}
	})
	if a.objects != nil {
		live.OnFile(func(f daemon.File) { a.objects.ConfigurationSaid(f.Path, f.Wrong, f.Pending) })
	}
}
