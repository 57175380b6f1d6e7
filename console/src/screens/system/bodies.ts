// The bodies of the routes that only this screen asks.

export interface SystemBody {
  version: string;
  log: { position: number };
  views: { position: number; lag: number };
  scheduler: {
    leader: string | null;
    queued: number;
    in_flight: number;
    lanes: { name: string; in_flight: number; queued: number }[];
  };
  services: { name: string; instance: string; at: string }[];
  quarantined: number;
}

export interface LimitRow {
  name: string;
  limit: number | null;
  allowed_now?: number;
  in_flight: number;
  queued: number;
  brake?: { until: string; level: number; code: string } | null;
}

export interface LimitsBody {
  providers: LimitRow[];
  processors: LimitRow[];
  tenants: LimitRow[];
}
